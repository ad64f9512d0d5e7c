// capture(): what is recorded, what may change between replays, whose memory it is, what is refused.
import { equal, is, match, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { add, dropout, embedding, mul, relu, sum } from "../../src/autograd/ops/index.ts";
import { replayed } from "../../src/gpu/recording.ts";
import { SGD } from "../../src/nn/optim/index.ts";
import { capture } from "../../src/tensor/capture.ts";
import { ones, parameter, rand, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { runModule } from "../child.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

/** Calls a captured step until its next call is a replay. */
function settle<A extends readonly Tensor[]>(step: (...args: A) => unknown, ...args: A): void {
  step(...args);
  step(...args);
}

gpuTest(
  "a replay reads what x.set() wrote, and overwrites what the call before returned",
  async () => {
    const x = tensor([1, 2, 3]);
    using step = capture((x: Tensor) => ({ double: add(x, x), square: mul(x, x) }));
    settle(step, x);
    const before = theGpu().stats();
    const results = [4, 5, 6].map((n) => {
      x.set([n, 0, -n]);
      const { double, square } = step(x);
      return [double.data(), square.data()];
    });
    const values = [];
    for (const pair of results) values.push(await Promise.all(pair));
    equal(
      values.map(([double, square]) => [[...double!], [...square!]]),
      [4, 5, 6].map((n) => [
        [2 * n, 0, -2 * n],
        [n * n, 0, n * n],
      ]),
    );
    is(theGpu().stats().dispatches - before.dispatches, 6);
    is(theGpu().stats().bytesReserved, before.bytesReserved);
  },
);

gpuTest("copies, clears and host actions are replayed in their order", async () => {
  const x = tensor([1, 2]);
  const log: number[] = [];
  let calls = 0;
  using step = capture(() => {
    calls += 1; // JavaScript of the function itself runs in the first two calls alone
    replayed(() => log.push(log.length));
    const copy = x.clone();
    const empty = zeros([2]);
    return add(copy, empty);
  });
  for (let i = 0; i < 5; i++) {
    x.set([i, i + 1]);
    equal([...(await step().data())], [i, i + 1]);
  }
  is(calls, 2);
  equal(log, [0, 1, 2, 3, 4]);
});

gpuTest(
  "dropout draws anew in each replay, with the keys that eager calls would draw",
  async () => {
    const x = ones([64]);
    const draw = async (fn: () => Tensor) => {
      manualSeed(5);
      const masks: number[][] = [];
      for (let i = 0; i < 4; i++) {
        using _ = scope();
        masks.push([...(await fn().data())]);
      }
      return masks;
    };
    const fn = () => dropout(add(dropout(x, 0.5), x), 0.25);
    using step = capture(fn);
    const eager = await draw(fn);
    equal(await draw(step), eager); // trial, recording, two replays
    equal(await draw(step), eager); // four replays
  },
);

gpuTest(
  "memory that a step lends between replays comes back, or the step takes its own",
  async () => {
    const x = rand([5000]);
    using step = capture(() => sum(relu(mul(x, x))));
    settle(step);
    const expected = await step().item();
    const { bytesReserved, dispatches } = theGpu().stats();
    const kept: Tensor[] = [];
    for (let i = 0; i < 4; i++) {
      {
        using _ = scope();
        zeros([5000]); // lent, and back before the next replay
      }
      is(await step().item(), expected);
    }
    is(theGpu().stats().bytesReserved, bytesReserved);
    const perCall = (theGpu().stats().dispatches - dispatches) / 4;
    for (let i = 0; i < 4; i++) {
      kept.push(zeros([5000])); // taken for good
      is(await step().item(), expected);
    }
    for (const t of kept) ok((await t.data()).every((v) => v === 0));
    is(theGpu().stats().dispatches - dispatches, 8 * perCall);
  },
);

gpuTest("the peak of a replay is the peak of an eager call", async () => {
  const x = rand([10_000]);
  const fn = () => sum(mul(add(x, x), relu(x)));
  const peakOf = (call: () => unknown) => {
    using _ = scope();
    theGpu().resetPeak();
    call();
    return theGpu().stats().bytesPeak - theGpu().stats().bytesLive;
  };
  const eager = peakOf(() => capture(fn)());
  using step = capture(fn);
  settle(step);
  ok(Math.abs(peakOf(step) - eager) <= 512, "a result of 256 bytes more or less");
});

gpuTest("dispose() gives everything back, and a later call starts anew", async () => {
  const before = theGpu().stats();
  {
    using _ = scope();
    const x = rand([5000]);
    const step = capture((x: Tensor) => sum(mul(x, x)));
    settle(step, x);
    const kept = zeros([5000]); // so that the step comes to own memory
    const value = await step(x).item();
    step.dispose();
    is(await step(x).item(), value);
    step.dispose();
    kept.dispose();
  }
  const { tensorsLive, bytesLive, buffersLive } = theGpu().stats();
  equal(
    [tensorsLive, bytesLive, buffersLive],
    [before.tensorsLive, before.bytesLive, before.buffersLive],
  );
});

gpuTest("replayed steps count as writes: what an op saved before is noticed", () => {
  const p = parameter(ones([4]));
  using optimizer = new SGD([p], { lr: 0.1 });
  using step = capture(() => {
    backward(sum(mul(p, p)));
    optimizer.step();
    optimizer.zeroGrad();
  });
  settle(step);
  const loss = sum(mul(p, p));
  step();
  throwsLike(() => backward(loss), "GradError", "written in place");
});

gpuTest("other arguments are refused", () => {
  const [x, y] = [zeros([2, 3]), zeros([2, 3])];
  using step = capture((x: Tensor) => relu(x));
  step(x);
  for (const _ of ["recording", "replay"]) {
    const refused = (t: Tensor, name: string, ...parts: string[]) =>
      throwsLike(() => step(t), name, "capture: argument 1 must be", ...parts);
    refused(zeros([3, 2]), "ShapeError", "[2, 3], as in the first call, got [3, 2]");
    refused(zeros([2, 3], "u32"), "DTypeError", "f32, as in the first call, got u32");
    refused(y, "CaptureError", "the very tensor of the first call, got another", "x.set(values)");
    throwsLike(() => (step as unknown as () => void)(), "CaptureError", "with 1 arguments, got 0");
    step(x);
  }
});

gpuTest("reads, waits and promises inside are refused, at the first call", async () => {
  const x = ones([1]);
  const outside = "must be outside of a captured function, got one inside";
  throwsLike(() => capture(() => void x.item())(), "CaptureError", `read: the read ${outside}`);
  throwsLike(() => capture(() => void x.data())(), "CaptureError", "Read what the captured step");
  throwsLike(
    () => capture(() => void theGpu().sync())(),
    "CaptureError",
    `sync: the wait ${outside}`,
  );
  const waits = capture((async () => relu(x)) as unknown as () => Tensor);
  throwsLike(
    waits,
    "CaptureError",
    "capture: the function must be synchronous, got one that returns",
  );
  const inner = capture(() => relu(x));
  throwsLike(() => capture(() => inner())(), "CaptureError", `capture: the call ${outside}`);
  is(await x.item(), 1);
});

gpuTest("uploads inside are refused in the second call; the first may make constants", async () => {
  const x = ones([2]);
  let table: Tensor | null = null;
  using good = capture(() => {
    table ??= tensor([3, 4]).persist();
    return mul(x, table);
  });
  for (let i = 0; i < 3; i++) equal([...(await good().data())], [3, 4]);
  table!.dispose();
  for (const [name, fn] of [
    ["tensor", () => add(x, tensor([1, 2]))],
    ["ones", () => add(x, ones([2]))],
    ["set", () => x.set([1, 2])],
  ] as const) {
    const bad = capture(fn as () => void);
    bad();
    const parts = ["must be outside of a captured function, got one inside", "x.set(values)"];
    throwsLike(bad, "CaptureError", `${name}: the upload`, ...parts);
  }
});

gpuTest("a tensor that was freed since is an error of the op that uses it", async () => {
  const p = parameter(ones([300]));
  using step = capture(() => noGrad(() => relu(p)));
  settle(step);
  step();
  p.dispose();
  throwsLike(step, "DisposedError", "relu: argument 1 must be alive, got a freed f32[300]");
});

gpuTest("what was replaced since is recorded anew", async () => {
  let scale = ones([300]);
  const x = ones([300]);
  using step = capture(() => mul(x, scale));
  settle(step);
  step();
  scale.dispose();
  scale = tensor(new Float32Array(300).fill(2));
  for (let i = 0; i < 3; i++) is((await step().data())[299], 2);
});

gpuTest("a tensor from outside that is used and freed inside is refused", () => {
  let state = ones([300]).persist();
  using moves = capture(() => {
    const next = add(state, state).persist();
    state.dispose();
    state = next;
  });
  moves();
  const parts = ["alive after the call, got one of up to 1280 bytes that it freed", "in place"];
  throwsLike(moves, "CaptureError", "capture: a tensor from outside", ...parts);
  state.dispose();
});

gpuTest("ids that x.set() brings are checked at each replay", async () => {
  const [table, ids] = [rand([5, 4]), tensor(Int32Array.of(0, 4))];
  using step = capture((ids: Tensor) => embedding(table, ids));
  settle(step, ids);
  ids.set([1, 2]);
  step(ids);
  ids.set([1, 5]);
  throwsLike(() => step(ids), "ValueError", "embedding: ids must be in [0, 4], got 5");
});

gpuTest(
  "x.set: another count and numbers that do not fit are refused, and change nothing",
  async () => {
    const x = tensor(Int32Array.of(1, 2, 3, 4), [2, 2]);
    throwsLike(
      () => x.set([1, 2, 3]),
      "ShapeError",
      "set: values must be 4 numbers for shape [2, 2]",
    );
    throwsLike(() => x.set([1, 2, 3, 0.5]), "ValueError", "set: values[3] must be integers in");
    equal([...(await x.data())], [1, 2, 3, 4]);
    const half = zeros([3], "f16");
    half.set([1.5, -2, 0.25]);
    equal([...(await half.data())], [1.5, -2, 0.25]);
    half.dispose();
    throwsLike(() => half.set([1, 2, 3]), "DisposedError", "set: the tensor must be alive");
  },
);

const OTHER = `import { add, capture, init, tensor } from "./src/index.ts";
const run = async (options) => {
  const gpu = await init(options);
  const x = tensor([0]);
  const step = capture(() => { let y = x; for (let i = 0; i < 300; i++) y = add(y, i); return y; });
  const values = [];
  for (const n of [1, 2, 3]) { x.set([n]); values.push(await step().item()); }
  gpu.dispose();
  await init(options);
  let error = "";
  try { step(); } catch (e) { error = e.name + " " + e.message; }
  return { values, error };
};
console.log(JSON.stringify(await run({ immediates: false })));`;

gpuTest("without immediates too; and not on another device than the first", async () => {
  const ended = await runModule(OTHER);
  is(ended.code, 0, ended.stderr);
  const { values, error } = JSON.parse(ended.stdout);
  equal(
    values,
    [1, 2, 3].map((n) => n + (300 * 299) / 2),
  );
  match(error, "DisposedError capture: the device must be the one of the first call, got another");
});

runTests();
