// What the device reports becomes an error of JavaScript that names the op: refused work, and its loss.
import { equal, is, match, ok } from "uvu/assert";
import { mul } from "../../src/autograd/ops/index.ts";
import { DeviceError } from "../../src/gpu/errors.ts";
import { kernel } from "../../src/kernels/kernel.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { runModule } from "../child.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

/** The DeviceError that a promise is rejected with. */
async function rejected(promise: Promise<unknown>): Promise<DeviceError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  ok(error instanceof DeviceError, `expected a DeviceError, got ${error}`);
  return error;
}

/** A kernel of the test's own, called once with an output of four numbers. */
function launch(name: string, body: string, type = "array<f32>"): Tensor {
  const y = zeros([4]);
  const source = `@group(0) @binding(0) var<storage, read_write> y: ${type};
@compute @workgroup_size(4)
fn ${name}_forward(@builtin(local_invocation_index) i: u32) { ${body} }`;
  kernel(name, source).run(`${name}_forward`, { tensors: { y }, groups: [1] });
  return y;
}

const tooSmall = (): Tensor => launch("wide", "y[i] = vec4(1.0);", "array<vec4<f32>, 4096>");

gpuTest(
  "WGSL that does not compile: an error at once, with the op, the line and the reason",
  async () => {
    throwsLike(
      () => launch("twice", "y[i] = nonsense;"),
      "DeviceError",
      /^twice: got an error from the device/,
      ":3:",
      "unresolved value 'nonsense'",
    );
    equal([...(await launch("well", "y[i] = f32(i);").data())], [0, 1, 2, 3]);
  },
);

gpuTest("an entry point that is not there: an error at once that names it", () => {
  const source = "@group(0) @binding(0) var<storage, read_write> y: array<f32>;";
  const none = kernel("none", source);
  const run = () => none.run("none_forward", { tensors: { y: zeros([4]) }, groups: [1] });
  throwsLike(run, "DeviceError", /^none_forward: got an error from the device/);
});

gpuTest("a library that is not there: an error that names those that are", () => {
  const source = `// requires: threefrog
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn own() { y[0] = 1; }`;
  const run = () => kernel("own", source).run("own", { tensors: { y: zeros([1]) }, groups: [1] });
  throwsLike(run, "ValueError", /^own: \/\/ requires: must be threefry or .*, got threefrog/);
});

gpuTest("a buffer too small for its binding: the read throws, once, and names the op", async () => {
  const error = await rejected(tooSmall().data());
  is(error.op, "wide_forward");
  match(error.message, "requires a buffer binding which is at least 65536 bytes");
  match(error.message, "recent operations: ");
  await theGpu().sync();
  const x = tensor([2, 3]);
  equal([...(await mul(x, x).data())], [4, 9]);
});

gpuTest("the error of one dispatch among good ones, in one chunk, names that one", async () => {
  const x = tensor([2, 3]);
  mul(x, x);
  tooSmall();
  mul(x, x);
  is((await rejected(theGpu().sync())).op, "wide_forward");
});

gpuTest("an uncaptured error outside kernels reaches the next op as a DeviceError", async () => {
  const MAP_READ_AND_STORAGE = 0x01 | 0x80; // exclude each other
  theGpu().device.createBuffer({ label: "odd", size: 4, usage: MAP_READ_AND_STORAGE });
  await new Promise((resolve) => setTimeout(resolve, 20));
  throwsLike(() => zeros([1]), "DeviceError", /^odd: got an error from the device/, "usage");
});

/** Tries everything on a device that is gone, and prints what was thrown. */
const LOSS = `import { init, kernel, mul, tensor, zeros } from "./src/index.ts";
const gpu = await init();
const x = tensor([1, 2, 3]);
const errors = {};
const note = async (name, body) => {
  try { await body(); } catch (error) { errors[name] = [error.name, error.op, error.message]; }
};
const pending = mul(x, x).data();
gpu.device.destroy();
await note("pending", () => pending);
await note("mul", () => mul(x, x));
await note("tensor", () => tensor([1]));
await note("zeros", () => zeros([1]));
await note("clone", () => x.clone());
const own = "@group(0) @binding(0) var<storage, read_write> y: array<f32>; @compute @workgroup_size(1) fn own() { y[0] = 1; }";
await note("own", () => kernel("own", own).run("own", { tensors: { y: x }, groups: [1] }));
await note("read", () => x.data());
await note("sync", () => gpu.sync());
gpu.dispose();
await init();
await note("gone", () => x.data());
console.log(JSON.stringify({ errors, again: await mul(tensor([3]), tensor([4])).item() }));`;

gpuTest(
  "after the device is lost every op and read throws, by name; init() starts anew",
  async () => {
    const ended = await runModule(LOSS);
    is(ended.code, 0, ended.stderr);
    const { errors, again } = JSON.parse(ended.stdout);
    for (const name of ["mul", "tensor", "zeros", "clone", "own", "read", "sync"]) {
      const [className, op, message] = errors[name] ?? [];
      is(className, "DeviceError", name);
      is(op, name);
      match(message, new RegExp(`^${name}: the device must be there, got its loss: .*destroyed`));
      match(message, "Recent operations: binary_forward.");
      match(message, "gpu.dispose(), then init() again");
    }
    is(errors.gone?.[0], "DeviceError");
    is(again, 12);
    // A read under way either still came or was refused with the loss.
    match(errors.pending?.[2] ?? "loss", "loss");
  },
);

runTests();
