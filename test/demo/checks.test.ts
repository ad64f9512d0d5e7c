// The demo's self-check: each check is good for a LoRA that was trained, and fails for one that was spoiled.
import { equal, is, match, ok } from "uvu/assert";
import * as check from "../../examples/demo/checks.ts";
import { compareMerged, logitsOf } from "../../examples/demo/measure.ts";
import { addLora, type Lora } from "../../src/lora/lora.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { fit } from "../../src/train/fit.ts";
import { Windows } from "../../src/train/windows.ts";
import { gpuTest, runTests } from "../gpu.ts";

const text = Array.from({ length: 500 }, (_, i) => (i * i + (i >> 3)) % 64);
const windows = new Windows(text, 16);
const tiny = { hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2 };

function adapted(): { model: LlamaForCausalLM; lora: Lora } {
  manualSeed(5);
  const sizes = { vocab_size: 64, num_attention_heads: 2, max_position_embeddings: 64 };
  const model = new LlamaForCausalLM({ ...tiny, ...sizes });
  return { model, lora: addLora(model, { r: 4, target_modules: "all-linear" }) };
}

async function trained() {
  const { model, lora } = adapted();
  await fit(model, { train: windows, steps: 3, batch: 2, lr: 1e-2 });
  return { model, lora };
}

const base = (model: LlamaForCausalLM, lora: Lora) => {
  const own = new Set(lora.parameters());
  return model.parameters().filter((p) => !own.has(p));
};

gpuTest("T12 every lora_B moved: not before training, and not where one was left out", async () => {
  const { model, lora } = await trained();
  const good = await check.everyBMoved(lora);
  ok(good.good, good.seen);
  match(good.seen, /^14 of 14, .* of \d\.\de-\d or more/);
  model.dispose();
  const fresh = adapted();
  const bad = await check.everyBMoved(fresh.lora);
  is(bad.good, false);
  match(bad.seen, /^0 of 14/);
  const parameters = fresh.lora.parameters().slice(0, -1);
  await fit(fresh.model, { train: windows, parameters, steps: 3, batch: 2, lr: 1e-2 });
  const one = await check.everyBMoved(fresh.lora);
  is(one.good, false);
  match(one.seen, /^13 of 14/);
  fresh.model.dispose();
});

gpuTest("adapters alone have gradients: a base tensor with one, an adapter without", async () => {
  const { model, lora } = await trained();
  const run = () => check.onlyAdaptersGetGradients(model, lora, windows.at([0, 16]));
  const good = await run();
  ok(good.good, good.seen);
  match(good.seen, /^28 of 28 adapter tensors.* 0 of \d+ base tensors$/);
  ok(lora.parameters().every((p) => p.grad === null));

  const [first] = base(model, lora);
  first!.requiresGrad = true; // as though it had been trained with the adapters
  const leak = await run();
  is(leak.good, false);
  match(leak.seen, /^28 of 28 .* 1 of \d+ base tensors$/);
  first!.requiresGrad = false;
  first!.grad?.dispose();
  first!.grad = null;

  const frozen = lora.parameters()[0]!;
  frozen.requiresGrad = false;
  const without = await run();
  is(without.good, false);
  match(without.seen, /^27 of 28/);
  model.dispose();

  const fresh = adapted(); // B is zero: A gets a gradient of zeros
  const zeros = await check.onlyAdaptersGetGradients(fresh.model, fresh.lora, windows.at([0]));
  is(zeros.good, false);
  match(zeros.seen, /^14 of 28 adapter tensors, each with a largest \|g\| of 0/);
  fresh.model.dispose();
});

gpuTest("T12 the base's bytes: one that was trained, and a merge that was not undone", async () => {
  const { model, lora } = await trained();
  const before = await check.hashOf(base(model, lora));
  const after = () => check.hashOf(base(model, lora));
  ok(check.baseUnchanged(before, await after()).good);
  lora.merge();
  is(check.baseUnchanged(before, await after()).good, false);
  lora.unmerge();
  ok(check.baseUnchanged(before, await after()).good);
  const [first] = base(model, lora);
  first!.requiresGrad = true;
  await fit(model, { train: windows, steps: 2, batch: 2, lr: 1e-2 });
  is(check.baseUnchanged(before, await after()).good, false);
  model.dispose();
});

gpuTest("the same logits, and merged against unmerged", async () => {
  const { model, lora } = await trained();
  const { ids } = windows.at([0]);
  const logits = await logitsOf(model, ids);
  ok(check.sameLogits(logits, logits.slice()).good);
  const merge = await compareMerged(model, lora, ids);
  const good = check.mergedEqualsUnmerged(merge);
  ok(good.good, good.seen);
  ok(merge.mergedMs > 0 && merge.unmergedMs > 0);
  ok(check.sameLogits(logits, await logitsOf(model, ids)).good, "unmerged again");
  is(check.mergedEqualsUnmerged({ ...merge, difference: 1e-4 * merge.largestLogit }).good, false);
  is(check.mergedEqualsUnmerged({ ...merge, difference: NaN }).good, false);
  lora.merge();
  is(check.sameLogits(logits, await logitsOf(model, ids)).good, false, "still merged");
  model.dispose();
});

gpuTest("one bit of one logit is enough, and so is a logit that is missing", () => {
  const logits = Float32Array.of(1, 2, 0);
  is(check.sameLogits(logits, Float32Array.of(1, 2 + 2 ** -22, 0)).seen, "2 of 3 logits");
  is(check.sameLogits(logits, Float32Array.of(1, 2, -0)).good, false);
  is(check.sameLogits(logits, Float32Array.of(1, 2)).good, false);
  is(check.sameLogits(logits, Float32Array.of(1, 2, 0, 0)).good, false);
  is(check.sameLogits(new Float32Array(), new Float32Array()).good, false);
});

gpuTest("every line is printed, those that failed too", () => {
  const lines = check.checkLines([
    { name: "one", good: false, seen: "3 of 4" },
    check.baseUnchanged("abc", "abc"),
  ]);
  equal(lines.split("\n"), [
    "  FAILED  one: 3 of 4",
    "  ok      the base's bytes are unchanged by training, merging and unmerging: SHA-256 abc… before, abc… after",
  ]);
});

runTests();
