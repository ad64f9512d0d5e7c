// profile(): what kernels say they compute and move, the table, the trace, and devices without a clock.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import {
  add,
  attention,
  cast,
  embedding,
  linear,
  loraLinear,
  matmul,
  slice,
} from "../../src/autograd/ops/index.ts";
import { accumulate } from "../../src/kernels/accumulate.ts";
import { formatProfile, type OpProfile, profile, summarise } from "../../src/kernels/profile.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { capture } from "../../src/tensor/capture.ts";
import { parameter, rand, tensor } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { inFolder, runModule } from "../child.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

/** Calls, operations and bytes of each label. */
async function counted(fn: () => unknown): Promise<Record<string, number[]>> {
  const { ops } = await profile(fn);
  return Object.fromEntries(
    ops.map(({ label, calls, flops, bytes }) => [label, [calls, flops, bytes]]),
  );
}

gpuTest("matmul: 2·M·N·K a matrix; each operand and the result once", async () => {
  const [a, b] = [rand([3, 5]), rand([5, 7])];
  equal(await counted(() => matmul(a, b)), { matmul: [1, 210, 4 * (15 + 35 + 21)] });
  // One matrix for a batch of two counts once.
  const batch = rand([2, 3, 5]);
  equal(await counted(() => matmul(batch, b)), { matmul: [1, 420, 4 * (30 + 35 + 42)] });
  // A weight of bf16 has half the bytes; the bias is read too.
  const [weight, bias] = [cast(rand([8, 4]), "bf16"), rand([8])];
  const x = rand([3, 4]);
  equal(await counted(() => linear(x, weight, bias)), {
    matmul: [1, 2 * 3 * 8 * 4, 4 * (12 + 24 + 8) + 2 * 32],
  });
});

gpuTest("lora_linear: a product that is in + r deep, and the narrow one before it", async () => {
  const [x, W, A, B] = [rand([6, 8]), rand([12, 8]), rand([4, 8]), rand([12, 4])];
  equal(await counted(() => loraLinear(x, W, null, A, B)), {
    lora_linear_forward: [1, 2 * 6 * 12 * (8 + 4), 4 * (48 + 96 + 72 + 24 + 48)],
    lora_linear_forward_s: [1, 2 * 6 * 4 * 8, 4 * (32 + 48 + 24)],
  });
});

gpuTest("attention: two products for each visible pair forward, seven backward", async () => {
  const [q, k, v] = [rand([1, 3, 2, 4]), rand([1, 3, 1, 4]), rand([1, 3, 1, 4])];
  const pairs = 2 * (1 + 2 + 3);
  const forward = await counted(() => attention(q, k, v));
  equal(Object.values(forward), [[1, 2 * 2 * 4 * pairs, 4 * (24 + 12 + 12 + 24 + 6)]]);
  const whole = await counted(() => attention(q, k, v, { causal: false }));
  is(Object.values(whole)[0]![1], 2 * 2 * 4 * 2 * 9);
  const window = await counted(() => attention(q, k, v, { window: 2 }));
  is(Object.values(window)[0]![1], 2 * 2 * 4 * 2 * (1 + 2 + 2));
  const leaves = [q, k, v].map(parameter) as [Tensor, Tensor, Tensor];
  const y = attention(...leaves);
  const dy = rand(y.shape);
  const both = await counted(() => backward(y, { gradient: dy }));
  equal(
    Object.entries(both)
      .filter(([label]) => label.startsWith("attention"))
      .map(([label, [, flops]]) => `${label} ${flops}`)
      .sort(),
    [
      `attention_backward_kv ${4 * 2 * 4 * pairs}`,
      `attention_backward_q ${3 * 2 * 4 * pairs}`,
      `attention_backward_rows ${2 * 24}`, // Σ dy·y of each row
    ],
  );
});

gpuTest(
  "what works element by element counts one for each; in place, read and written",
  async () => {
    const [x, y] = [rand([10]), rand([10])];
    equal(await counted(() => add(x, y)), { binary_forward: [1, 10, 120] });
    equal(await counted(() => accumulate(x, y)), { accumulate: [1, 10, 120] });
    const p = parameter(rand([64]));
    using optimizer = new AdamW([p]);
    optimizer.zeroGrad();
    equal(await counted(() => optimizer.step()), { adamw_step: [1, 64, 7 * 256] });
  },
);

gpuTest("what moves elements computes nothing, and moves those that are asked for", async () => {
  const [table, ids] = [rand([1000, 4]), tensor(Int32Array.of(3, 5))];
  const rows = Object.values(await counted(() => embedding(table, ids)));
  equal(rows, [[1, 0, 8 + 32 + 32]]);
  const part = Object.values(await counted(() => slice(table, 1, 1, 3)));
  equal(part, [[1, 0, 2 * 8000]]);
});

gpuTest("a replay is profiled as the calls that it repeats", async () => {
  const [x, w] = [rand([8, 8]), rand([8, 8])];
  const fn = () => add(matmul(x, w), x);
  using step = capture(fn);
  step();
  step();
  const eager = await counted(fn);
  equal(await counted(step), eager);
  is(eager.matmul![1], 2 * 512);
});

gpuTest("times are sorted, add up, and are set against the roof that binds", async () => {
  const pass = { beginMs: 0, gpuTimeMs: 2 };
  const roofline = { gflops: 10, gbytesPerSecond: 4 };
  const ops = summarise(
    [
      { label: "dense", flops: 1e7, bytes: 1e5, ...pass },
      { label: "copy", flops: 0, bytes: 4e6, ...pass, gpuTimeMs: 5 },
      { label: "dense", flops: 1e7, bytes: 1e5, ...pass },
    ],
    roofline,
  );
  const expected: OpProfile[] = [
    {
      ...{ label: "copy", calls: 1, gpuTimeMs: 5, flops: 0, bytes: 4e6 },
      ...{ gflops: 0, gbytesPerSecond: 0.8, shareOfRoofline: 0.2, bound: "memory" },
    },
    {
      ...{ label: "dense", calls: 2, gpuTimeMs: 4, flops: 2e7, bytes: 2e5 },
      ...{ gflops: 5, gbytesPerSecond: 0.05, shareOfRoofline: 0.5, bound: "arithmetic" },
    },
  ];
  equal(ops, expected);
  const text = formatProfile({ device: "test", roofline, ops, gpuTimeMs: 9, wallTimeMs: 12 });
  const [head, , copy, dense, all, wall] = text.split("\n");
  is(head, "test; at best 10.0 GFLOP/s, 4.0 GB/s");
  match(copy!, /^copy +1 +5\.000 +56% +0\.000 +4\.00 +0\.0 +0\.80 +20% M$/);
  match(dense!, /^dense +2 +4\.000 +44% +0\.020 +0\.20 +5\.0 +0\.05 +50% A$/);
  match(all!, /^all +3 +9\.000$/);
  match(wall!, "12.0 ms from the call to the end");
});

gpuTest(
  "profile measures: every dispatch is there, with the time of each where there is a clock",
  async () => {
    const x = rand([256, 256]);
    const { dispatches } = theGpu().stats();
    const { ops, gpuTimeMs, wallTimeMs, roofline } = await profile(async () => {
      for (let i = 0; i < 3; i++) matmul(x, x);
      await add(x, x).data();
    });
    ok(theGpu().stats().dispatches > dispatches);
    equal(ops.map(({ label, calls }) => `${label} ${calls}`).sort(), [
      "binary_forward 1",
      "matmul 3",
    ]);
    ok(roofline.gflops > 0 && roofline.gbytesPerSecond > 0 && wallTimeMs > 0);
    if (theGpu().hasTimestamps) ok(gpuTimeMs! > 0 && ops[0]!.gpuTimeMs! >= ops[1]!.gpuTimeMs!);
    else is(gpuTimeMs, null);
  },
);

gpuTest("a trace lists the passes in their order; nothing is left of a failed one", () =>
  inFolder(async (folder) => {
    const x = rand([64]);
    const file = join(folder, "new", "step.json");
    const { ops } = await profile(
      () => {
        for (let i = 0; i < 3; i++) add(x, x);
        matmul(rand([64, 1]), rand([1, 64]));
      },
      { trace: file },
    );
    const { traceEvents } = JSON.parse(readFileSync(file, "utf8"));
    const events = traceEvents.filter((event: { ph: string }) => event.ph === "X");
    const calls = ops.reduce((sum, op) => sum + op.calls, 0);
    is(events.length, calls);
    equal(
      events.slice(0, 3).map((event: { name: string; args: object }) => [event.name, event.args]),
      Array(3).fill(["binary_forward", { flops: 64, bytes: 512 }]),
    );
    is(events.at(-1).name, "matmul");
    if (theGpu().hasTimestamps) {
      is(events[0].ts, 0);
      for (let i = 1; i < events.length; i++) ok(events[i].ts >= events[i - 1].ts);
    }
    equal(readdirSync(join(folder, "new")), ["step.json"], "no temporary file is left");
    writeFileSync(join(folder, "file"), "");
    const bad = join(folder, "file", "step.json");
    const error = await profile(() => add(x, x), { trace: bad }).catch((reason) => reason);
    ok(error instanceof Error);
    ok(!existsSync(bad));
  }),
);

gpuTest("one profile at a time; one whose function throws ends with it", async () => {
  const nested = await profile(() => profile(() => {})).catch((reason: Error) => reason);
  is((nested as Error).name, "DeviceError");
  match((nested as Error).message, "profile: the call must be outside of another profile");
  const thrown = await profile(() => {
    add(rand([4]), 1);
    throw new Error("on purpose");
  }).catch((reason: Error) => reason);
  is((thrown as Error).message, "on purpose");
  const x = rand([4]);
  equal(Object.keys(await counted(() => add(x, 1))), ["binary_forward"]);
});

const NO_CLOCK = `import { add, formatProfile, init, profile, rand } from "./src/index.ts";
const gpu = await init({ without: ["timestamp-query"] });
const x = rand([1000]);
const result = await profile(() => add(x, x));
console.log(JSON.stringify({ ...result, text: formatProfile(result) }));
gpu.dispose();`;

gpuTest(
  "without timestamps there are counts and the wall time, and the table says so",
  async () => {
    const ended = await runModule(NO_CLOCK);
    is(ended.code, 0, ended.stderr);
    const { ops, gpuTimeMs, wallTimeMs, text } = JSON.parse(ended.stdout);
    is(gpuTimeMs, null);
    ok(wallTimeMs > 0);
    const { label, calls, flops, bytes, gflops, shareOfRoofline } = ops[0];
    equal(
      [label, calls, flops, bytes, gflops, shareOfRoofline],
      ["binary_forward", 1, 1000, 8000, null, null],
    );
    match(text, "This device has no timestamps");
    match(text, /binary_forward +1 +- +- +0\.000 +0\.01 +- +- +- M/);
  },
);

runTests();
