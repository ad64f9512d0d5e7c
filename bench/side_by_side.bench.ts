// A step of several adapters over one base, beside the steps of the same adapters one after another: forward,
// backward, clipping and AdamW, replayed.
import { backward } from "../src/autograd/backward.ts";
import { addLora, type Lora } from "../src/lora/lora.ts";
import { sideBySideLoss } from "../src/lora/side_by_side.ts";
import { GPT2LMHeadModel } from "../src/nn/gpt2.ts";
import { AdamW, clipGradNorm, type Optimizer } from "../src/nn/optim/index.ts";
import { capture } from "../src/tensor/capture.ts";
import { tensor } from "../src/tensor/create.ts";
import { manualSeed } from "../src/tensor/philox.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const RANKS = [2, 4, 8, 8, 16, 16, 32, 4];
const T = 64;

interface Sizes {
  width: number;
  /** Sequences of each adapter. */
  batch: number;
}

function newModel({ width }: Sizes) {
  manualSeed(3);
  const sizes = { n_positions: T, n_embd: width, n_layer: 4, n_head: 4 };
  return new GPT2LMHeadModel({ vocab_size: 512, ...sizes });
}

const configOf = (r: number) => ({ r, lora_dropout: 0.1, target_modules: "all-linear" });

function idsFor(sequences: number) {
  const values = Int32Array.from({ length: sequences * T }, (_, i) => (i * 7) % 512);
  return tensor(values, [sequences, T]).persist();
}

function update(optimizer: Optimizer): void {
  clipGradNorm(optimizer, 1);
  optimizer.step();
  optimizer.zeroGrad();
}

function oneAfterAnother(n: Sizes) {
  const steps = RANKS.map((r) => {
    const model = newModel(n);
    const optimizer = new AdamW(addLora(model, configOf(r)).parameters(), { lr: 1e-4 });
    const ids = idsFor(n.batch);
    return capture(() => {
      const loss = model.loss(ids, ids);
      backward(loss);
      update(optimizer);
      return loss;
    });
  });
  return { run: () => steps.map((step) => step()), verify: () => looksAlive(steps[0]!()) };
}

function sideBySide(n: Sizes) {
  const model = newModel(n);
  const names = RANKS.map((_, i) => `trial${i}`);
  let lora: Lora | null = null;
  for (const [i, r] of RANKS.entries()) {
    if (lora) lora.addAdapter(names[i]!, configOf(r));
    else lora = addLora(model, configOf(r), names[i]);
  }
  lora!.setAdapter(names);
  const optimizers = names.map((name) => new AdamW(lora!.parameters(name), { lr: 1e-4 }));
  const rows = names.flatMap((name) => Array<string>(n.batch).fill(name));
  const ids = idsFor(rows.length);
  const step = capture(() => {
    const { total, losses } = sideBySideLoss(lora!, model, ids, ids, rows);
    backward(total);
    for (const optimizer of optimizers) update(optimizer);
    return [...losses.values()];
  });
  return { run: () => step(), verify: () => looksAlive(step()[0]!) };
}

for (const n of [
  { width: 128, batch: 1 },
  { width: 128, batch: 4 },
  { width: 256, batch: 2 },
]) {
  const what = `${RANKS.length} adapters, width ${n.width}, ${n.batch}×${T} tokens each`;
  bench("side_by_side", [
    { name: `${what}, side by side`, setup: () => sideBySide(n) },
    { name: `${what}, one after another`, setup: () => oneAfterAnother(n) },
  ]);
}
