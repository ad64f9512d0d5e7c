// The training loop: windows of text, validation that training never sees, and fit.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { mul } from "../../src/autograd/ops/index.ts";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed, randomState } from "../../src/tensor/philox.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { fit } from "../../src/train/fit.ts";
import type { FitProgress } from "../../src/train/fit_options.ts";
import { readText } from "../../src/train/text/bytes.ts";
import { splitTail, Windows } from "../../src/train/windows.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

/** Made-up tokens of the fixtures' vocabulary, with a pattern to learn. */
const text = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * i + 3 * i) % 67);

gpuTest("random windows are a pure function of seed and step, and lie in the text", async () => {
  const windows = new Windows(text(50), 8);
  const draw = async (seed: number, step: number) => {
    const { ids, targets } = windows.random(4, seed, step);
    equal(ids.shape, [4, 8]);
    const [a, b] = [await ids.data(), await targets.data()];
    for (let row = 0; row < 4; row++) {
      const next = a.slice(8 * row + 1, 8 * row + 8);
      equal(b.slice(8 * row, 8 * row + 7), next, "a target is the token that follows");
    }
    return [...a];
  };
  equal(await draw(1, 2), await draw(1, 2));
  not.equal(await draw(1, 2), await draw(1, 3));
  not.equal(await draw(1, 2), await draw(2, 2));
  await new Windows(text(9), 8).random(3, 0, 0).targets.data(); // the one window that there is
});

gpuTest("windows that are counted stand behind one another and do not overlap", () => {
  const windows = new Windows(text(101), 10);
  is(windows.count, 10);
  const ids = Array.from({ length: 10 }, (_, i) => [...windows.row(i).ids]);
  equal(ids.flat(), [...text(101)].slice(0, 100));
  equal([...windows.row(9).targets], [...text(101)].slice(91));
  is(new Windows(text(100), 10).count, 9, "the last token has none behind it");
  throwsLike(() => new Windows(text(8), 8), "ValueError", "Windows: tokens must be more than one");
  throwsLike(() => new Windows(text(8), 0), "ValueError", "Windows: length must be a positive");
});

gpuTest("T4 the tail is held out: no token of it is trained on", () => {
  const whole = Uint8Array.from({ length: 100 }, (_, i) => i);
  const [train, valid] = splitTail(whole, 0.1);
  equal([...train, ...valid], [...whole]);
  is(valid.length, 10);
  ok(train.every((token) => token < valid[0]!));
});

async function refused(path: string, atLeast: number, part: string | RegExp): Promise<void> {
  const error = await readText(path, atLeast).catch((reason: Error) => reason);
  is((error as Error).name, "FormatError");
  match((error as Error).message, part);
  match((error as Error).message, path);
}

gpuTest("text files: missing, empty, tiny and binary ones are refused by name", () =>
  inFolder(async (folder) => {
    const put = (name: string, content: string | Uint8Array) => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    await refused(
      join(folder, "none.txt"),
      1,
      "must be a file that can be read, got ENOENT: no such file",
    );
    await refused(folder, 1, "got EISDIR");
    await refused(put("empty.txt", ""), 1, "must be at least 1 bytes of text, got an empty file");
    await refused(put("tiny.txt", "short"), 100, "must be at least 100 bytes of text, got 5");
    await refused(put("zero.txt", "a\0b"), 1, "must be UTF-8 text, got binary data");
    await refused(put("latin.txt", Uint8Array.of(65, 0xe4, 66)), 1, "must be UTF-8 text");
    equal(await readText(put("good.txt", "naïve →"), 1), Buffer.from("naïve →"));
  }),
);

const load = () => fromPretrained(fixtureFolder("llama-tiny"));

async function trained(model: CausalLM, onStep?: (p: FitProgress) => void) {
  const [train, valid] = splitTail(text(400), 0.2);
  return fit(model, {
    train: new Windows(train, 11),
    validate: { rows: new Windows(valid, 11), every: 5 },
    steps: 20,
    batch: 4,
    lr: 2e-2,
    warmup: 2,
    seed: 3,
    ...(onStep ? { onStep } : {}),
  });
}

gpuTest("fit: the loss falls, twice alike bit for bit, with progress and validation", async () => {
  const runs: { losses: number[]; valid: { step: number; loss: number }[] }[] = [];
  for (let run = 0; run < 2; run++) {
    manualSeed(1);
    const model = await load();
    model.eval();
    addLora(model, { r: 4, lora_dropout: 0.1, target_modules: "all-linear" });
    const seen: FitProgress[] = [];
    const { losses, valid, stepMs } = await trained(model, (p) => seen.push(p));
    equal([losses.length, stepMs.length, seen.length], [20, 20, 20]);
    equal(
      valid.map(({ step }) => step),
      [5, 10, 15, 20],
    );
    equal(
      seen.map(({ step }) => step),
      losses.map((_, i) => i + 1),
    );
    equal(
      seen.map(({ loss }) => loss),
      losses,
    );
    is(seen.at(-1)!.secondsLeft, 0);
    ok(seen.every(({ tokensPerSecond }) => tokensPerSecond > 0));
    is(model.training, false, "the mode is as before");
    ok(
      model.parameters().every((p: Tensor) => p.grad === null),
      "gradients are freed",
    );
    model.dispose();
    runs.push({ losses, valid });
  }
  equal(runs[0], runs[1]);
  const [first, last] = [runs[0]!.losses[0]!, runs[0]!.losses[19]!];
  ok(last < 0.9 * first, `${first} to ${last}`);
});

gpuTest(
  "fit: what cannot be trained is refused; what throws on the way leaves nothing behind",
  async () => {
    using model = await load();
    const windows = new Windows(text(100), 11);
    const options = { train: windows, steps: 3, batch: 2, lr: 1e-3 };
    const lora = addLora(model, { r: 2, target_modules: "all-linear" });
    await evaluate(model, windows); // the model makes its tables of angles at the first call
    const before = theGpu().stats();
    const says = async (change: object) => {
      const error = await fit(model, { ...options, ...change }).catch((reason: Error) => reason);
      return `${(error as Error).name} ${(error as Error).message}`;
    };
    match(await says({ steps: 0 }), "ValueError fit: steps must be a positive integer, got 0");
    match(await says({ batch: 1.5 }), "ValueError fit: batch must be a positive integer, got 1.5");
    match(await says({ lr: Number.NaN }), "ValueError AdamW: lr must be");
    match(await says({ parameters: [] }), "ValueError AdamW: the parameters must be at least one");
    match(await says({ clip: 0 }), "ValueError clip_grad_norm: maxNorm must be above 0");
    ok(lora.parameters().every((p) => p.grad === null));
    model.eval();
    const onStep = () => {
      throw new Error("on purpose");
    };
    is(await says({ onStep }), "Error on purpose");
    is(model.training, false);
    ok(lora.parameters().every((p) => p.grad === null));
    is(theGpu().stats().tensorsLive, before.tensorsLive);
  },
);

/** Everything that a run of fit can differ in. */
async function outcome(
  adapted: boolean,
  capture: boolean | undefined,
  spoil?: (m: CausalLM) => void,
) {
  manualSeed(4);
  using model = await load();
  if (adapted) addLora(model, { r: 4, lora_dropout: 0.2, target_modules: "all-linear" });
  spoil?.(model);
  const [train, valid] = splitTail(text(400), 0.2);
  const {
    losses,
    valid: looks,
    captured,
  } = await fit(model, {
    train: new Windows(train, 11),
    validate: { rows: new Windows(valid, 13), every: 4 }, // longer windows than those trained on
    steps: 11,
    batch: 3,
    lr: 2e-2,
    warmup: 3,
    weightDecay: 0.1,
    clip: 0.5,
    ...(capture === undefined ? {} : { capture }),
  });
  const digest = createHash("sha256");
  for (const p of model.parameters()) digest.update(await p.rawBytes());
  return { captured, all: { losses, looks, random: randomState(), bits: digest.digest("hex") } };
}

for (const adapted of [true, false]) {
  const what = adapted ? "an adapter with dropout" : "a whole model";
  gpuTest(`fit: ${what} trained by replay and eagerly gets the same bits`, async () => {
    const [replayed, eager] = [await outcome(adapted, undefined), await outcome(adapted, false)];
    equal([replayed.captured, eager.captured], [true, false]);
    equal(replayed.all, eager.all);
    not.equal(eager.all.losses[0], eager.all.losses[10]);
  });
}

gpuTest(
  "fit: a step that cannot be captured is trained eagerly, or refused on demand",
  async () => {
    const upload = (model: CausalLM) => {
      const loss = model.loss.bind(model);
      model.loss = (ids, targets) => mul(loss(ids, targets), tensor([0.5]));
    };
    const [asked, eager] = [
      await outcome(true, undefined, upload),
      await outcome(true, false, upload),
    ];
    is(asked.captured, false);
    equal(asked.all, eager.all, "keys of dropout are drawn once, gradients are those of one pass");
    const error = await outcome(true, true, upload).catch((reason: Error) => reason);
    is((error as Error).name, "CaptureError");
    match((error as Error).message, "tensor: the upload must be outside of a captured function");
    const late = (model: CausalLM) => {
      const loss = model.loss.bind(model);
      let state = tensor([1]).persist();
      model.loss = (ids, targets) => {
        const before = state;
        state = mul(state, 1).persist();
        before.dispose();
        return mul(loss(ids, targets), state);
      };
    };
    const [lateAsked, lateEager] = [
      await outcome(true, undefined, late),
      await outcome(true, false, late),
    ];
    is(lateAsked.captured, false);
    equal(lateAsked.all, lateEager.all, "found out late: nothing had moved yet");
    const refused = await outcome(true, true, late).catch((reason: Error) => reason);
    match(
      (refused as Error).message,
      "capture: a tensor from outside that the function uses must be alive",
    );
  },
);

runTests();
