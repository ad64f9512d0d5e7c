// The account of GPU memory by category, and the budget.
import { test } from "uvu";
import { equal, is, not, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { matmul, mul, sum } from "../../src/autograd/ops/index.ts";
import { init } from "../../src/gpu/device.ts";
import {
  formatBytes,
  formatHolder,
  formatMemory,
  Ledger,
  MEMORY_CATEGORIES,
  type MemoryReport,
} from "../../src/gpu/memory.ts";
import { Pool } from "../../src/gpu/pool.ts";
import { addLora } from "../../src/lora/lora.ts";
import { GPT2LMHeadModel } from "../../src/nn/gpt2.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, randomValues, runTests, theGpu, throwsLike } from "../gpu.ts";

/** Live bytes by category now. */
function live(): Record<string, number> {
  const { categories } = theGpu().memory();
  return Object.fromEntries(MEMORY_CATEGORIES.map((c) => [c, categories[c].live]));
}

/** What `run` adds to each category; those it leaves alone are absent. */
function added(run: () => unknown): Record<string, number> {
  const before = live();
  run();
  const entries = Object.entries(live()).map(([c, n]) => [c, n - before[c]!] as const);
  return Object.fromEntries(entries.filter(([, n]) => n !== 0));
}

const KB = 1024;
const values = (n: number) => randomValues(n, 3);

gpuTest("memory: weights, gradients, residuals and results are told apart", () => {
  const x = tensor(values(256 * 4), [256, 4]);
  let W!: Tensor;
  equal(
    added(() => {
      W = parameter(tensor(values(4 * 64), [4, 64]));
    }),
    { base: KB },
  );
  let y!: Tensor;
  // y is workspace; x is kept for the gradient of W. W is kept too and stays what it is.
  equal(
    added(() => {
      y = matmul(x, W);
    }),
    { workspace: 64 * KB - 4 * KB, activations: 4 * KB },
  );
  let z!: Tensor;
  // Both factors of the square are y, which is counted once.
  equal(
    added(() => {
      z = mul(y, y);
    }),
    { activations: 64 * KB },
  );
  equal(
    added(() => {
      backward(z, { gradient: z });
    }),
    { gradients: KB, activations: -68 * KB, workspace: 68 * KB },
  );
  equal(
    added(() => {
      W.grad!.dispose();
      W.dispose();
    }),
    { base: -KB, gradients: -KB },
  );
});

gpuTest("memory: a graph that is never differentiated gives its residuals back", () => {
  const x = parameter(tensor(values(64), [64]));
  const y = mul(x, 2);
  const left = added(() => {
    using _ = scope();
    is(added(() => sum(mul(y, y))).activations, 256);
  });
  equal(left, {}, "nothing is left");
  x.dispose();
});

gpuTest("memory: a LoRA step has gradients and state of the adapters alone", async () => {
  const before = live();
  const model = new GPT2LMHeadModel({
    vocab_size: 64,
    n_positions: 16,
    n_embd: 32,
    n_layer: 2,
    n_head: 2,
  });
  const lora = addLora(model, { r: 4, target_modules: "all-linear" });
  const optimizer = new AdamW(lora.parameters(), { lr: 1e-3 });
  const trained = lora.parameters().reduce((n, p) => n + p.bytes, 0);
  const frozen = model.parameters().reduce((n, p) => n + p.bytes, 0) - trained;
  const ids = tensor(
    Int32Array.from({ length: 32 }, (_, i) => (i * 5) % 64),
    [2, 16],
  );
  const step = () => {
    using _ = scope();
    const loss = model.loss(ids, ids);
    ok(theGpu().memory().categories.activations.live > before.activations!);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
  };
  step();
  theGpu().resetPeak();
  step();
  const { categories, total } = theGpu().memory();
  const of = (c: keyof typeof categories) => categories[c].live - before[c]!;
  // Buffers of at least 256 bytes, in steps of an eighth: a little more than the numbers alone.
  const within = (got: number, bytes: number, what: string) =>
    ok(got >= bytes && got <= bytes * 1.2 + 2048, `${what}: ${got} for ${bytes}`);
  within(of("base"), frozen, "base");
  within(of("adapters"), trained, "adapters");
  is(of("gradients"), of("adapters"), "gradients of the adapters alone");
  within(of("optimiser"), 2 * of("adapters"), "two moments and two factors");
  is(of("activations"), 0);
  ok(of("workspace") < 4 * KB, "the ids, and what kernels keep");
  ok(categories.activations.peak > (8 * of("adapters")) / 4, "activations at their peak");
  const atPeak = MEMORY_CATEGORIES.reduce((n, c) => n + categories[c].atPeak, 0);
  is(atPeak, total.peak, "the parts of the peak");
  const now = MEMORY_CATEGORIES.reduce((n, c) => n + categories[c].live, 0);
  is(now, total.live, "the parts of now");
  is(total.live, theGpu().stats().bytesLive);
  is(total.peak, theGpu().stats().bytesPeak);
  ok(total.peak > total.live);
  optimizer.dispose();
  model.dispose();
  ids.dispose();
  await theGpu().sync();
  for (const c of MEMORY_CATEGORIES) if (c !== "workspace") is(live()[c], before[c], c);
});

gpuTest(
  "budget: fails before allocating, says who uses what, and the device works on",
  async () => {
    const gpu = theGpu();
    const kept = parameter(zeros([1024, 1024]));
    gpu.pool.trim();
    gpu.setMemoryBudget(gpu.stats().bytesLive + 3 * 2 ** 20);
    try {
      const fits = zeros([512, 1024]); // 2 MiB
      const before = gpu.stats();
      throwsLike(
        () => matmul(kept, kept),
        "LimitError",
        "matmul: 4.19 MB more must be within the memory budget of ",
        " MB, got ",
        " in use: base 4.",
        "Largest: zeros 4.19 MB (base), zeros 2.10 MB (workspace)",
        "gpu().setMemoryBudget(bytes)",
      );
      equal(gpu.stats(), before, "nothing was allocated or encoded");
      const y = mul(zeros([4]), 2);
      equal([...(await y.data())], [0, 0, 0, 0]);
      // A free buffer of another size gives way.
      fits.dispose();
      const other = zeros([640, 1024]); // 2.5 MiB
      ok(gpu.stats().bytesReserved <= gpu.memory().budget!);
      other.dispose();
      gpu.setMemoryBudget(null);
      is(gpu.memory().budget, null);
      matmul(kept, kept).dispose();
    } finally {
      gpu.setMemoryBudget(null);
      kept.dispose();
    }
  },
);

gpuTest("budget: refused unless it is positive, and where more is in use", async () => {
  const gpu = theGpu();
  const wrong = "must be a positive number of bytes, or null, got";
  throwsLike(() => gpu.setMemoryBudget(0), "ValueError", `setMemoryBudget: bytes ${wrong} 0`);
  throwsLike(() => gpu.setMemoryBudget(Number.NaN), "ValueError", `bytes ${wrong} NaN`);
  let error: Error | null = null;
  await init({ memoryBudget: -1 }).catch((e: Error) => {
    error = e;
  });
  ok(error);
  is((error as Error).name, "ValueError");
  is((error as Error).message, `init: memoryBudget ${wrong} -1.`);
  const x = zeros([2 ** 18]);
  throwsLike(
    () => gpu.setMemoryBudget(2 ** 18),
    "LimitError",
    "setMemoryBudget: bytes must be within the memory budget of 262 kB, got ",
    "zeros 1.05 MB (workspace)",
  );
  is(gpu.memory().budget, null, "the budget is as before");
  x.dispose();
  await init({ memoryBudget: 2 ** 33 });
  is(gpu.memory().budget, 2 ** 33, "init sets it on the device in use");
  gpu.setMemoryBudget(null);
});

test("pool: free buffers go before they are many more than were ever needed", () => {
  let destroyed = 0;
  const device = {
    limits: { maxBufferSize: 2 ** 40, maxStorageBufferBindingSize: 2 ** 40 },
    createBuffer: () => ({
      destroy: () => {
        destroyed += 1;
      },
    }),
  };
  const pool = new Pool(device as unknown as GPUDevice, () => {});
  const MB = 2 ** 20;
  const [most, few] = [64 * MB, 32 * MB];
  pool.release(pool.acquire("probe", most));
  for (let size = 1; size <= 4; size++) pool.release(pool.acquire("probe", few + size * 4 * MB));
  is(destroyed, 4, "past twice the most that was in use, and 64 MiB, all free ones go");
  is(pool.bytesReserved, 48 * MB);
  is(pool.bytesLive, 0);
});

test("memory: the same requests get the same buffers, in whatever order they were freed", () => {
  const device = { limits: { maxBufferSize: 1e9, maxStorageBufferBindingSize: 1e9 } };
  const pool = new Pool({ ...device, createBuffer: () => ({}) } as unknown as GPUDevice, () => {});
  const five = () => Array.from({ length: 5 }, () => pool.acquire("probe", 300));
  const first = five();
  for (const order of [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [2, 0, 4, 1, 3],
  ]) {
    for (const i of order) pool.release(first[i]!);
    equal(five(), first, `freed as ${order}`);
  }
  is(pool.buffersReserved, 5);
});

test("memory: a report as a table", () => {
  const ledger = new Ledger();
  ledger.add("workspace", 5e6);
  ledger.move("workspace", "base", 5e6);
  ledger.add("workspace", 1000);
  ledger.remove("workspace", 1000);
  ledger.add("workspace", 250);
  const largest: MemoryReport["largest"] = [
    { op: "load", category: "base", buffers: 2, bytes: 5e6 },
    { op: "add", category: "workspace", buffers: 1, bytes: 250 },
  ];
  const report = { ...ledger.use(), bytesReserved: 6e6, budget: 2e9, largest };
  equal(formatMemory(report).split("\n"), [
    "GPU memory             now        peak at the peak",
    "base               5.00 MB     5.00 MB     5.00 MB",
    "adapters           0 bytes     0 bytes     0 bytes",
    "gradients          0 bytes     0 bytes     0 bytes",
    "optimiser          0 bytes     0 bytes     0 bytes",
    "activations        0 bytes     0 bytes     0 bytes",
    "workspace        250 bytes     5.00 MB     1.00 kB",
    "total              5.00 MB     5.00 MB     5.00 MB",
    "held               6.00 MB",
    "budget             2.00 GB",
    "largest: 2 × load 5.00 MB (base), add 250 bytes (workspace)",
  ]);
  ledger.resetPeak();
  is(ledger.use().categories.workspace.peak, 250);
  is(ledger.use().total.peak, 5e6 + 250);
  not.match(formatMemory({ ...report, budget: null, largest: [] }), /budget|largest/);
  is(formatBytes(0), "0 bytes");
  is(formatBytes(999), "999 bytes");
  is(formatBytes(154_389_504), "154 MB");
  is(formatHolder(largest[0]!), "2 × load 5.00 MB (base)");
});

runTests();
