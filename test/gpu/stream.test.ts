// When work is submitted, how far JavaScript may be ahead of the device, and how it waits.
import { equal, is, match, ok } from "uvu/assert";
import { add, matmul } from "../../src/autograd/ops/index.ts";
import { patiently } from "../../src/gpu/wait.ts";
import { capture } from "../../src/tensor/capture.ts";
import { rand } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

gpuTest("an idle device gets eight dispatches at once, a busy one sixty-four", async () => {
  const x = rand([4]);
  for (let burst = 0; burst < 2; burst++) {
    await theGpu().sync();
    const before = theGpu().stats().submits;
    const submitted: number[] = [];
    for (let i = 1; i <= 8 + 2 * 64; i++) {
      add(x, 1);
      if (theGpu().stats().submits > before + submitted.length) submitted.push(i);
    }
    equal(submitted, [8, 72, 136]);
  }
});

gpuTest("pace: the work of all but the last rounds has run", async () => {
  const gpu = theGpu();
  const x = rand([192, 192]);
  for (const rounds of [0, 1, 3]) {
    await gpu.sync();
    const done: boolean[] = [];
    for (let round = 0; round < 6; round++) {
      using _ = scope();
      for (let i = 0; i < 20; i++) matmul(x, x);
      gpu.stream.flush();
      gpu.device.queue.onSubmittedWorkDone().then(() => {
        done[round] = true;
      });
      await gpu.pace(rounds);
      for (let i = 0; i <= round - rounds; i++)
        is(done[i], true, `round ${i} at ${round}, ${rounds}`);
    }
    await gpu.sync();
  }
  const before = gpu.stats().submits;
  add(x, 1);
  await gpu.pace();
  is(gpu.stats().submits, before + 1, "it submits, so that the device has work meanwhile");
});

gpuTest(
  "pace: rounds that are no number of calls, and calls in a captured step, are refused",
  async () => {
    for (const rounds of [-1, 1.5, Number.NaN]) {
      const error = await theGpu()
        .pace(rounds)
        .catch((reason: Error) => reason);
      is((error as Error).name, "ValueError");
      match(
        (error as Error).message,
        `pace: rounds must be an integer of at least 0, got ${rounds}`,
      );
    }
    let refused: Promise<Error> | null = null;
    using step = capture(() => {
      refused = theGpu()
        .pace()
        .then(
          () => new Error("not refused"),
          (reason: Error) => reason,
        );
    });
    step();
    match((await refused!).message, "pace: the wait must be outside of a captured function");
  },
);

/** Turns of the event loop while a promise is awaited. */
async function turnsDuring(naps: boolean): Promise<number> {
  let turns = 0;
  let waiting = true;
  const count = () => {
    turns += 1;
    if (waiting) setImmediate(count);
  };
  setImmediate(count);
  is(await patiently(new Promise((resolve) => setTimeout(() => resolve(7), 100)), naps), 7);
  waiting = false;
  return turns;
}

gpuTest("waiting with naps leaves the processor to the device", async () => {
  const [napping, spinning] = [await turnsDuring(true), await turnsDuring(false)];
  ok(napping < spinning / 3, `${napping} turns of the event loop with naps, ${spinning} without`);
  const fails = patiently(Promise.reject(new Error("lost")), true).catch((e: Error) => e.message);
  is(await fails, "lost");
});

runTests();
