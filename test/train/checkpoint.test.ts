// Checkpoints of fit: a run that was broken off goes on with the same bits, and no other run does.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { randomState } from "../../src/tensor/philox.ts";
import { readSafetensors } from "../../src/tensor/safetensors.ts";
import type { FitOptions } from "../../src/train/fit_options.ts";
import { Windows } from "../../src/train/windows.ts";
import { inFolder, runModule } from "../child.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";
import { type Change, tinyRun, tokens } from "./tiny_run.ts";

const read = (folder: string, name: string) =>
  readSafetensors(name, readFileSync(join(folder, name)));

/** All that a finished run left in its folder, but for times: parameters, moments, losses, notes. */
function leftBy(folder: string): Record<string, unknown> {
  const { tensors, metadata } = read(folder, "last.safetensors");
  const best = read(folder, "best.safetensors");
  const bits = (all: typeof tensors) =>
    [...all].filter(([name]) => name !== "step_ms").map(([name, t]) => [name, [...t.bytes]]);
  return {
    last: bits(tensors),
    notes: metadata,
    best: bits(best.tensors),
    bestNotes: best.metadata,
    files: readdirSync(folder).sort(),
  };
}

type Ended = Awaited<ReturnType<typeof tinyRun>>;
const withoutTimes = ({ result, weights }: Ended) => ({ ...result, stepMs: [], weights });

/** An uninterrupted run. */
async function whole() {
  return inFolder(async (folder) => {
    const { result, weights } = await tinyRun(folder, {});
    const { stepMs: _, captured, ...rest } = result;
    ok(captured);
    return { rest, weights, left: leftBy(folder), random: randomState() };
  });
}

gpuTest("a checkpoint holds parameters, moments, best weights and losses, and nothing else", () =>
  inFolder(async (folder) => {
    const { result } = await tinyRun(folder, {});
    const { tensors } = read(folder, "last.safetensors");
    const kinds = new Map<string, number>();
    for (const name of tensors.keys()) {
      const kind = name
        .replace(/^(parameter|best)\..*$/, "$1")
        .replace(/^optimizer\.\d+/, "moment");
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    const n = kinds.get("parameter")!;
    ok(n > 10);
    equal(Object.fromEntries(kinds), {
      parameter: n,
      best: n,
      "moment.exp_avg": n,
      "moment.exp_avg_sq": n,
      losses: 1,
      grad_norms: 1,
      step_ms: 1,
    });
    const losses = tensors.get("losses")!.bytes;
    equal([...new Float32Array(Uint8Array.from(losses).buffer)], result.losses);
    is(read(folder, "best.safetensors").tensors.size, n);
    equal(readdirSync(folder).sort(), ["best.safetensors", "last.safetensors"]);
  }),
);

gpuTest(
  "broken off after any step and gone on with: the same bits as without a break",
  async () => {
    const expected = await whole();
    for (const breaks of [[1], [2], [5, 6, 7], [3, 11]]) {
      await inFolder(async (folder) => {
        let last: Ended | null = null;
        let done = 0;
        for (const [i, step] of [...breaks, 12].entries()) {
          const limits = { steps: step - done };
          last = await tinyRun(folder, { random: i + 1, limits }); // the first one's seed counts
          is(last.result.losses.length, step);
          is(last.result.stopped, step === 12 ? "steps" : "limit");
          done = step;
        }
        const { stepMs, captured: _, ...rest } = last!.result;
        is(stepMs.length, 12);
        equal(rest, expected.rest, `${breaks}`);
        equal(last!.weights, expected.weights, `${breaks}`);
        equal(leftBy(folder), expected.left, `${breaks}`);
        equal(randomState(), expected.random);
      });
    }
  },
);

gpuTest("another random state would give other bits, so that the test above can fail", () =>
  inFolder(async (folder) => {
    const expected = await whole();
    const other = await tinyRun(folder, { random: 2 });
    not.equal(other.result.losses, expected.rest.losses);
  }),
);

gpuTest("a finished run gone on with is the finished run; patience and bad steps are kept", () =>
  inFolder(async (folder) => {
    const first = await tinyRun(folder, {});
    const again = await tinyRun(folder, {
      random: 7,
      checkpoint: { folder, every: 2, resume: true },
    });
    equal(withoutTimes(again), withoutTimes(first));
    const strict: Change = {
      validate: {
        rows: new Windows(tokens(300), 11),
        every: 1,
        most: 2,
        patience: 2,
        minDelta: 1e9,
      },
    };
    const other = join(folder, "other");
    const stopped = await tinyRun(other, strict);
    equal([stopped.result.stopped, stopped.result.losses.length], ["patience", 3]);
    equal(withoutTimes(await tinyRun(other, strict)), withoutTimes(stopped));
  }),
);

/** A process of its own that goes on with the run of a folder; `then` sees each step. */
const child = (folder: string, then: string) =>
  runModule(`import { init } from "./src/gpu/device.ts";
    import { tinyRun } from "./test/train/tiny_run.ts";
    await init();
    const die = () => process.kill(process.pid, "SIGKILL");
    const onStep = ({ step }) => { ${then} };
    const folder = ${JSON.stringify(folder)};
    const checkpoint = { folder, every: 1, resume: "if-present" };
    const { result } = await tinyRun(folder, { checkpoint, onStep });
    console.log(result.stopped, result.losses.length);`);

gpuTest(
  "kill -9 at a step and at any moment: processes that go on end with the same bits",
  async () => {
    const expected = await whole();
    await inFolder(async (folder) => {
      const atOnce = await child(folder, "if (step === 4) die();");
      equal([atOnce.signal, atOnce.stdout], ["SIGKILL", ""], atOnce.stderr);
      const { tensors } = read(folder, "last.safetensors");
      equal(tensors.get("losses")!.shape, [3], "no more than the step since is lost");
      const wait = Math.random() * 60; // within a step, a look or the writing of a checkpoint
      const later = await child(folder, `if (step === 5) setTimeout(die, ${wait});`);
      is(later.signal, "SIGKILL", `after ${wait} ms: ${later.stderr}`);
      writeFileSync(join(folder, "last.safetensors.1.1.tmp"), "half"); // if it did not leave one itself
      const end = await child(folder, "");
      equal([end.code, end.stdout], [0, "steps 12\n"], end.stderr);
      equal(leftBy(folder), expected.left, `killed after ${wait} ms`);
    });
  },
);

gpuTest("a checkpoint of another run, model, version or a damaged one is refused, and kept", () =>
  inFolder(async (folder) => {
    const first = await tinyRun(folder, { limits: { steps: 4 } });
    const before = leftBy(folder);
    const { tensorsLive } = theGpu().stats();
    const says = async (change: Change, at = folder) => {
      const error = await tinyRun(at, change).catch((reason: Error) => reason);
      return `${(error as Error).name} ${(error as Error).message}`;
    };
    const checkpoint = { folder, every: 2 };
    const inUse = await says({ checkpoint });
    match(inUse, "ValueError fit: checkpoint.folder must be without a checkpoint, got ");
    match(inUse, "Go on with its run by `resume: true`, or choose another folder.");
    const lr = await says({ lr: 1e-3 });
    match(lr, /FormatError fit: the checkpoint .*last.safetensors must be of a run with lr 0.001/);
    match(lr, "got lr 0.03");
    match(await says({ seed: 6, steps: 13 }), "with steps 13, seed 6, got steps 12, seed 5.");
    match(await says({ dropout: 0.2 }), /of a run with model "\w+", got model "\w+"/);
    match(await says({ train: new Windows(tokens(401), 11) }), "of a run with data ");
    const validate = { rows: new Windows(tokens(99), 11), every: 3, most: 4, patience: 9 };
    match(await says({ validate }), "of a run with validationData ");
    const none = { checkpoint: { folder: join(folder, "none"), every: 2, resume: true } };
    match(await says(none), /FormatError safetensors: .*last.safetensors cannot be read/);
    match(await says({ checkpoint: { folder, every: 0 } }), "fit: checkpoint.every must be a posi");
    equal(leftBy(folder), before, "nothing is lost");
    is(theGpu().stats().tensorsLive, tensorsLive);
    const path = join(folder, "last.safetensors");
    const good = readFileSync(path);
    writeFileSync(path, good.subarray(0, good.length - 9));
    match(await says({}), "ends 9 bytes behind the file");
    const text = good.toString("latin1").replace('\\"version\\":2', '\\"version\\":9');
    writeFileSync(path, Buffer.from(text, "latin1"));
    match(await says({}), "must be of version 2, got 9. Nothing was changed.");
    writeFileSync(path, readFileSync(join(folder, "best.safetensors")));
    match(await says({}), "must be a checkpoint of training, got another file");
    writeFileSync(path, good);
    is((await tinyRun(folder, {})).result.losses[3], first.result.losses[3]);
  }),
);

gpuTest("steps that moved nothing are remembered as such", () =>
  inFolder(async (folder) => {
    const train = new Windows(tokens(400), 11);
    const huge: Partial<FitOptions> = { lr: 1e30, warmup: 0, schedule: "constant", clip: 1e9 };
    const run = (limits: { steps: number }) =>
      tinyRun(folder, { ...huge, train, limits, onNonFinite: "skip" });
    const first = await run({ steps: 6 });
    ok(first.result.skipped.length > 0, "such a rate leaves no finite loss");
    const second = await run({ steps: 3 });
    const isBad = second.result.losses.flatMap((loss, i) => (Number.isFinite(loss) ? [] : [i + 1]));
    ok(isBad.every((step) => second.result.skipped.includes(step)));
    equal(second.result.skipped.slice(0, first.result.skipped.length), first.result.skipped);
    equal(second.result.losses.slice(0, 6), first.result.losses);
  }),
);

runTests();
