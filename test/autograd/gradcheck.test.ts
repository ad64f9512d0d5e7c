import { ok } from "uvu/assert";
import { gradcheck } from "../../src/autograd/gradcheck.ts";
import { op } from "../../src/autograd/op.ts";
import { gelu, matmul, mul, swiglu } from "../../src/autograd/ops/index.ts";
import { kernel } from "../../src/kernels/kernel.ts";
import { tensor } from "../../src/tensor/create.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, randomValues, runTests } from "../gpu.ts";

const input = (shape: number[], seed: number) =>
  tensor(
    randomValues(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

// A user's own op, with WGSL of its own: y = x³.
const cube = kernel(
  "cube",
  `
struct Params {
  n: u32,
}
@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(64)
fn cube_forward(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.n) {
    y[id.x] = x[id.x] * x[id.x] * x[id.x];
  }
}

@compute @workgroup_size(64)
fn cube_backward(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.n) {
    y[id.x] = 3.0 * x[id.x] * x[id.x] * dy[id.x];
  }
}
`,
);

function run(entry: string, tensors: Record<string, Tensor>, x: Tensor): Tensor {
  const y = Tensor.empty(entry, x.shape, "f32");
  const groups = [Math.ceil(x.size / 64)] as const;
  cube.run(entry, { tensors: { ...tensors, y }, params: { n: x.size }, groups });
  return y;
}

const rightCube = op("cube", {
  forward: (x: Tensor) => [run("cube_forward", { x }, x), { x }],
  backward: (dy, { x }) => [run("cube_backward", { x, dy }, x)],
});

const wrongCube = op("cube", {
  forward: (x: Tensor) => [run("cube_forward", { x }, x), { x }],
  backward: (dy, { x }) => [mul(dy, mul(x, x))], // the 3 is missing
});

async function refused(check: Promise<void>): Promise<string> {
  try {
    await check;
  } catch (error) {
    ok((error as Error).name === "GradError", (error as Error).message);
    return (error as Error).message;
  }
  throw new Error("a wrong gradient passed");
}

gpuTest("gradcheck passes right gradients, of the library's ops and of a user's", async () => {
  await gradcheck((x) => gelu(x!, "none"), [input([3, 5], 1)]);
  await gradcheck((a, b) => matmul(a!, b!), [input([3, 4], 1), input([4, 2], 2)]);
  await gradcheck((a, b) => swiglu(a!, b!), [input([7], 1), input([7], 2)]);
  await gradcheck((x) => rightCube(x!), [input([2, 9], 3)]);
});

gpuTest("gradcheck catches a deliberately wrong gradient, and says where", async () => {
  const message = await refused(gradcheck((x) => wrongCube(x!), [input([2, 9], 3)]));
  ok(message.includes("gradcheck: the gradient of input 1 [2, 9] at element"), message);
});

runTests();
