// How a device is found: which one is taken, and what is said where there is none.
import { equal, is, match, not } from "uvu/assert";
import { type AdapterClass, classify } from "../../src/gpu/adapter.ts";
import { init } from "../../src/gpu/device.ts";
import { type Candidate, choose, type Sources } from "../../src/gpu/entry.node.ts";
import { runModule } from "../child.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

const NAMES: Readonly<Record<string, string>> = {
  gpu: "NVIDIA H100",
  lavapipe: "llvmpipe (LLVM 15)",
  swiftshader: "SwiftShader",
  software: "Basic Render Driver",
};

function candidate(adapterClass: string): Candidate {
  const name = NAMES[adapterClass]!;
  const info = { device: name, vendor: "", architecture: "", description: "" };
  const adapter = { info } as GPUAdapter;
  return { adapter, adapterClass: adapterClass as AdapterClass, name };
}

/** Places with these adapters; an Error is thrown. */
function places(installed: string[] | Error, embedded: string[] | Error): Sources {
  const give = async (what: string[] | Error) => {
    if (what instanceof Error) throw what;
    return what.map(candidate);
  };
  return { installed: () => give(installed), embedded: () => give(embedded) };
}

/** What is taken, as class and origin, or the error's message. */
async function taken(asked: string | undefined, from: Sources): Promise<string> {
  try {
    const found = await choose(asked, from);
    return `${found.adapterClass} ${found.origin}`;
  } catch (error) {
    is((error as Error).name, "DeviceError");
    return (error as Error).message;
  }
}

const all = () => places(["swiftshader", "software", "lavapipe", "gpu"], ["swiftshader"]);

gpuTest(
  "by itself a GPU is taken, else an installed software device, else the embedded one",
  async () => {
    is(await taken(undefined, all()), "gpu gpu");
    const software = places(["swiftshader", "lavapipe"], ["swiftshader"]);
    is(await taken(undefined, software), "lavapipe installed");
    is(await taken(undefined, places([], ["swiftshader"])), "swiftshader embedded");
    is(
      await taken(undefined, places(new Error("no loader"), ["swiftshader"])),
      "swiftshader embedded",
    );
  },
);

gpuTest("what is asked for is taken, or nothing", async () => {
  is(await taken("lavapipe", all()), "lavapipe installed");
  is(await taken("swiftshader", all()), "swiftshader embedded");
  is(await taken("swiftshader", places(["swiftshader"], new Error("no"))), "swiftshader installed");
  is(await taken("h100", all()), "gpu gpu");
  is(await taken("LLVM 15", all()), "lavapipe installed");
  const missing = await taken("gpu", places(["lavapipe"], ["swiftshader"]));
  match(missing, 'init: adapter must be one that is there (llvmpipe (LLVM 15)), got "gpu". Tried');
  match(missing, "For a GPU: install or update its driver");
});

gpuTest(
  "an unknown adapter, and none at all: the errors list what is there and what was tried",
  async () => {
    is(
      await taken("voodoo", places(["lavapipe"], new Error("npm has none"))),
      "init: adapter must be gpu, lavapipe, swiftshader or a part of a name that is there (llvmpipe (LLVM 15)), " +
        'got "voodoo". Tried installed devices: llvmpipe (LLVM 15); embedded SwiftShader: npm has none.',
    );
    const none = await taken(undefined, places(new Error("no loader"), []));
    match(none, "init: no GPU device was found.\n  Tried installed devices: no loader");
    match(none, "\n  Tried embedded SwiftShader: none that Dawn accepts\n");
    match(none, /\n {2}For (a GPU|lavapipe)/);
  },
);

gpuTest("adapters are told apart by what they say of themselves", () => {
  const info = (device: string, extra = {}) =>
    classify({ vendor: "", architecture: "", device, description: "", ...extra });
  equal(
    ["llvmpipe (LLVM 19.1.7, 256 bits)", "SwiftShader Device (LLVM)", "NVIDIA L4"].map((name) =>
      info(name),
    ),
    ["lavapipe", "swiftshader", "gpu"],
  );
  is(info("", { description: "Microsoft Basic Render Driver" }), "software");
  is(info("something", { isFallbackAdapter: true }), "software");
});

gpuTest(
  "two calls of init at once share one device; one for another adapter is refused",
  async () => {
    const [a, b] = await Promise.all([init(), init()]);
    is(a, b);
    is(a, theGpu());
    is(await init({ adapter: theGpu().adapterClass }), a);
    const error = await init({ adapter: "voodoo" }).catch((reason: Error) => reason);
    is((error as Error).name, "ValueError");
    match((error as Error).message, theGpu().description);
    match((error as Error).message, 'got "voodoo". Dispose of the device in use first');
  },
);

const INIT = `import { init } from "./src/index.ts"; await init();`;

gpuTest("LOWRANK_ADAPTER with an unknown name: init() lists those that are there", async () => {
  const ended = await runModule(INIT, { LOWRANK_ADAPTER: "voodoo" });
  is(ended.code, 1, ended.stderr);
  match(ended.stderr, "DeviceError: init: adapter must be gpu, lavapipe, swiftshader or a part of");
  match(ended.stderr, /that is there \(.+\), got "voodoo". Tried installed devices: /);
  match(ended.stderr, theGpu().description.split(",")[0]!);
});

gpuTest("a machine without any device: init() says what was tried", async () => {
  if (process.platform !== "linux") return; // elsewhere no variable takes the devices away
  const ended = await runModule(INIT, {
    LOWRANK_ADAPTER: undefined,
    VK_DRIVER_FILES: "/dev/null/none",
    VK_ICD_FILENAMES: "/dev/null/none",
    LOWRANK_CACHE: "/dev/null/cache",
  });
  is(ended.code, 1, ended.stderr);
  match(ended.stderr, "DeviceError: init: no GPU device was found.\n  Tried installed devices: ");
  match(ended.stderr, /\n {2}Tried embedded SwiftShader: swiftshader: /);
  match(ended.stderr, /\n {2}For lavapipe, as root:\n {4}\S/);
  not.match(ended.stdout, /./);
});

/** As on a machine without a Vulkan loader: none answers to the name until the embedded one is loaded. */
const NO_LOADER = `import { init } from "./src/index.ts";
const load = process.dlopen;
let embedded = false;
process.dlopen = (...args) => {
  const name = args[1];
  if (name === "libvulkan.so.1" && !embedded) throw new Error("cannot open shared object file");
  if (name.endsWith("/libvulkan.so.1")) embedded = true;
  load.apply(process, args);
};
for (let i = 0; i < 2; i++) {
  const gpu = await init();
  console.log(gpu.origin, gpu.description);
  gpu.dispose();
}`;

gpuTest("no Vulkan loader: the second init() finds the same device as the first", async () => {
  if (process.platform !== "linux" || process.arch !== "x64") return; // no embedded device elsewhere
  const ended = await runModule(NO_LOADER, { LOWRANK_ADAPTER: undefined });
  is(ended.code, 0, ended.stderr);
  const [first, second] = ended.stdout.trim().split("\n");
  match(first!, /^embedded SwiftShader/);
  is(second, first);
});

/** Ops with parameters of every type, and more dispatches in a burst than the uniform buffer has slots. */
const BITS = `import * as lr from "./src/index.ts";
const run = async (options) => {
  const gpu = await lr.init(options);
  lr.manualSeed(7);
  const [x, w] = [lr.parameter(lr.randn([5, 12])), lr.parameter(lr.randn([12, 8]))];
  const y = lr.gelu(lr.matmul(x, w));
  const z = lr.dropout(lr.softmax(lr.layerNorm(y, lr.ones([8]), lr.zeros([8]))), 0.25);
  lr.backward(lr.sum(lr.square(z)));
  let many = lr.tensor([1, 2, 3]);
  for (let i = 0; i < 300; i++) many = lr.clamp(lr.mul(many, lr.tensor([1.01])), -i - 5, i + 5);
  const bits = [];
  for (const t of [y, z, x.grad, w.grad, many]) bits.push(Buffer.from(await t.rawBytes()).toString("hex"));
  gpu.dispose();
  return { immediates: gpu.immediates, bits };
};
console.log(JSON.stringify([await run({}), await run({ immediates: false })]));`;

gpuTest("immediates: false gives the same bits as the default", async () => {
  const ended = await runModule(BITS);
  is(ended.code, 0, ended.stderr);
  const [usual, uniform] = JSON.parse(ended.stdout);
  is(usual.immediates, theGpu().immediates);
  is(uniform.immediates, false);
  equal(uniform.bits, usual.bits);
  for (const bits of usual.bits) match(bits, /[1-9a-f]/);
});

runTests();
