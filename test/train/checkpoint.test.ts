// Checkpoints of fit: a run that was broken off goes on with the same bits, and no other run does.
import { readdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { randomState } from "../../src/tensor/philox.ts";
import { readSafetensors } from "../../src/tensor/safetensors.ts";
import type { FitOptions } from "../../src/train/fit_options.ts";
import { FolderLock } from "../../src/train/folder_lock.ts";
import { Windows } from "../../src/train/windows.ts";
import { inFolder, runModule } from "../child.ts";
import { gpuTest, randomValues, runTests, theGpu } from "../gpu.ts";
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
  "T2 broken off after any step and gone on with: the same bits as without a break",
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

/** Starts a process of its own that goes on with the run of a folder; `then` sees each step. */
const child = (folder: string, then: string) =>
  runModule(`import { init } from "./src/gpu/device.ts";
    import { tinyRun } from "./test/train/tiny_run.ts";
    await init();
    const die = () => process.kill(process.pid, "SIGKILL");
    let own = 0;
    const onStep = ({ step }) => { own += 1; ${then} };
    const folder = ${JSON.stringify(folder)};
    const checkpoint = { folder, every: 1, resume: "if-present" };
    const { result } = await tinyRun(folder, { steps: ${LONG}, checkpoint, onStep });
    console.log(result.stopped, result.losses.length);`);

const LONG = 30;

gpuTest("T2 kill -9 at ten random moments: processes that go on end with the same bits", () =>
  inFolder(async (folder) => {
    const other = join(folder, "whole");
    const expected = await tinyRun(other, { steps: LONG });
    const seed = Number(process.env.LOWRANK_TEST_SEED ?? 20);
    const moments = Array.from(randomValues(10, seed), (x) => Math.floor(40 * (x + 1)));
    for (const [i, wait] of moments.entries()) {
      const kill = i === 0 ? "if (step === 4) die();" : `if (own === 1) setTimeout(die, ${wait});`;
      const facts = `kill ${i + 1}, ${wait} ms after a step, LOWRANK_TEST_SEED ${seed}`;
      const { signal, stdout, stderr } = await child(folder, kill);
      equal([signal, stdout], ["SIGKILL", ""], `${facts}: ${stderr}`);
      const { length } = new Float32Array(
        Uint8Array.from(read(folder, "last.safetensors").tensors.get("losses")!.bytes).buffer,
      );
      if (i === 0) is(length, 3, "no more than the step since is lost");
      ok(length < LONG, `${facts}: ended before it was killed`);
    }
    writeFileSync(join(folder, "last.safetensors.1.1.tmp"), "half"); // if none of them left one
    const end = await child(folder, "");
    equal([end.code, end.stdout], [0, `steps ${LONG}\n`], end.stderr);
    rmSync(join(other, "lock"), { force: true });
    const [left, whole] = [leftBy(folder), leftBy(other)];
    equal({ ...left, files: [] }, { ...whole, files: [] }, `moments ${moments}, seed ${seed}`);
    equal(left.files, ["best.safetensors", "last.safetensors", "whole"], "nothing half written");
    equal(expected.result.losses.length, LONG);
  }),
);

gpuTest("a full disk: the error names the file, the checkpoint before stays, the run goes on", () =>
  inFolder(async (folder) => {
    const expected = await whole();
    /** Every name that the next files may be written under leads to a device that is always full. */
    const names = Array.from({ length: 3000 }, (_, i) =>
      join(folder, `last.safetensors.${process.pid}.${i}.tmp`),
    );
    const onStep = ({ step }: { step: number }) => {
      if (step === 6) for (const name of names) symlinkSync("/dev/full", name);
    };
    const error = await tinyRun(folder, { onStep }).catch((reason: Error) => reason);
    const { name, message } = error as Error;
    match(`${name} ${message}`, /DiskError files: .*last.safetensors must be a file that can be/);
    match(
      message,
      /got ENOSPC: no space left on device. It needs [\d,]+ bytes. What was there is as before./,
    );
    for (const name of names) rmSync(name, { force: true });
    equal(read(folder, "last.safetensors").tensors.get("losses")!.shape, [4]);
    const { weights } = await tinyRun(folder, { random: 3 });
    equal(weights, expected.weights);
    equal(leftBy(folder), expected.left);
  }),
);

gpuTest("a folder in use is refused; the lock of a process that is gone is taken over", () =>
  inFolder(async (folder) => {
    const says = async (change: Change = {}) => {
      const error = await tinyRun(folder, change).catch((reason: Error) => reason);
      return `${(error as Error).name} ${(error as Error).message}`;
    };
    let inside = "";
    let asked: Promise<void> | null = null;
    const onStep = ({ step }: { step: number }) => {
      if (step === 1) {
        asked = FolderLock.take("fit", "checkpoint.folder", folder).then(
          () => {},
          (error: Error) => {
            inside = `${error.name} ${error.message}`;
          },
        );
      }
    };
    await tinyRun(folder, { onStep, limits: { steps: 2 } });
    await asked;
    match(inside, "ValueError fit: checkpoint.folder must be in use by no other process, got ");
    match(inside, `where process ${process.pid} on ${hostname()} since 20`);
    match(inside, `If it has ended, remove ${folder}/lock.`);
    const lock = (facts: object) =>
      writeFileSync(join(folder, "lock"), JSON.stringify({ since: "then", ...facts }));
    const stat = readFileSync("/proc/1/stat", "utf8");
    const began = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    const before = readFileSync(join(folder, "last.safetensors"));
    lock({ pid: 1, host: hostname(), began });
    match(await says(), "process 1 on");
    lock({ pid: 2 ** 22 + 1, host: "elsewhere", began: "" });
    match(await says(), "on elsewhere since then works");
    writeFileSync(join(folder, "lock"), "");
    match(await says(), "where a process works");
    equal(readFileSync(join(folder, "last.safetensors")), before, "nothing was written");
    const long = new Date(Date.now() - 61_000);
    utimesSync(join(folder, "lock"), long, long);
    is((await tinyRun(folder, { limits: { steps: 1 } })).result.losses.length, 3, "never written");
    lock({ pid: 2 ** 22 + 1, host: hostname(), began: "" });
    is((await tinyRun(folder, { limits: { steps: 1 } })).result.losses.length, 4, "it is gone");
    lock({ pid: 1, host: hostname(), began: `${began}0` });
    is((await tinyRun(folder, { limits: { steps: 1 } })).result.losses.length, 5, "it is another");
    equal(readdirSync(folder).sort(), ["best.safetensors", "last.safetensors"]);
    match(await says({ seed: 9 }), "seed 9");
    equal(readdirSync(folder).sort(), ["best.safetensors", "last.safetensors"], "given back");
  }),
);

gpuTest("of many that take over a lock at once, one has it", () =>
  inFolder(async (folder) => {
    const gone = { pid: 2 ** 22 + 1, host: hostname(), began: "", since: "then" };
    for (let n = 0; n < 20; n++) {
      writeFileSync(join(folder, "lock"), JSON.stringify(gone));
      const takes = Array.from({ length: 8 }, () => FolderLock.take("fit", "folder", folder));
      const taken = (await Promise.allSettled(takes)).filter((r) => r.status === "fulfilled");
      is(taken.length, 1);
      await taken[0]!.value.release();
      equal(readdirSync(folder), []);
    }
  }),
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
    match(
      await says({ dropout: 0.2 }),
      /of a run with the same model, got other model\. A model is another one with another r/,
    );
    match(
      await says({ train: new Windows(tokens(401), 11) }),
      "of a run with the same data, got other data. Nothing",
    );
    const validate = { rows: new Windows(tokens(99), 11), every: 3, most: 4, patience: 9 };
    match(await says({ validate }), "of a run with the same validationData");
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
