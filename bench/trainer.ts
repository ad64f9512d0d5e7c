// `npx tsx bench/trainer.ts`: what a step of fit takes beside the same step captured by hand, on the same model and
// rows, in turns in one process. At the demo's size and at 4 layers of width 256.
import { parseArgs } from "node:util";
import { backward } from "../src/autograd/backward.ts";
import { init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/index.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import { AdamW, clipGradNorm } from "../src/nn/optim/index.ts";
import { capture } from "../src/tensor/capture.ts";
import { zeros } from "../src/tensor/create.ts";
import { scope } from "../src/tensor/scope.ts";
import { fit } from "../src/train/fit.ts";
import { Windows } from "../src/train/windows.ts";

/** How much longer than the bare step a step of fit may be. */
const MOST = 1.03;
/** The first steps of a turn, which record. */
const FIRST = 3;

interface Size {
  width: number;
  inner: number;
  batch: number;
  length: number;
  vocabulary: number;
}

const SIZES: Record<string, Size> = {
  demo: { width: 128, inner: 352, batch: 8, length: 128, vocabulary: 256 },
  "width 256": { width: 256, inner: 688, batch: 8, length: 128, vocabulary: 512 },
};

const { values } = parseArgs({
  options: {
    turns: { type: "string", default: "4" },
    steps: { type: "string", default: "25" },
    size: { type: "string" },
  },
});
const [turns, steps] = [Number(values.turns), Number(values.steps)];

const gpu = await init();
console.log(`${gpu.adapterClass}: ${gpu.description}`);
console.log(
  `${"size".padEnd(12)}  bare ms   fit ms  fit / bare, medians of ${turns} × ${steps} steps`,
);
for (const [name, size] of Object.entries(SIZES)) {
  if (values.size !== undefined && values.size !== name) continue;
  const model = modelOf(size);
  const text = Int32Array.from({ length: 1 << 16 }, (_, i) => (i * i + 7 * i) % size.vocabulary);
  const rows = new Windows(text, size.length);
  const times = { bare: [] as number[], fit: [] as number[] };
  for (let turn = 0; turn < turns; turn++) {
    times.bare.push(...(await bareSteps(model, rows, size)));
    times.fit.push(...(await fitSteps(model, rows, size)));
  }
  model.dispose();
  const [bare, own] = [median(times.bare), median(times.fit)];
  const ratio = own / bare;
  console.log(`${name.padEnd(12)} ${bare.toFixed(2).padStart(8)} ${own.toFixed(2).padStart(8)}  ${ratio.toFixed(3)}`); // biome-ignore format: one line
  if (ratio > MOST) process.exitCode = 1;
}
gpu.dispose();

function modelOf({ width, inner, length, vocabulary }: Size) {
  const model = new LlamaForCausalLM({
    ...{ vocab_size: vocabulary, hidden_size: width, intermediate_size: inner },
    ...{ num_hidden_layers: 4, num_attention_heads: 4, max_position_embeddings: length },
    tie_word_embeddings: true,
  });
  addLora(model, { r: 8, target_modules: "all-linear" });
  return model.train();
}

/** Milliseconds of steps that a captured function repeats: rows in, loss out. */
async function bareSteps(
  model: ReturnType<typeof modelOf>,
  rows: Windows,
  { batch, length }: Size,
): Promise<number[]> {
  using optimizer = new AdamW(model.trainableParameters(), { lr: 1e-4 });
  using _ = scope();
  const [ids, targets] = [zeros([batch, length], "i32"), zeros([batch, length], "i32")];
  using step = capture(() => {
    const loss = model.loss(ids, targets);
    backward(loss);
    clipGradNorm(optimizer, 1);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  const ends = [performance.now()];
  for (let i = 0; i < steps; i++) {
    using _ = scope();
    const next = rows.rows(batch, 0, i);
    ids.set(next.ids);
    targets.set(next.targets);
    await step().item();
    ends.push(performance.now());
  }
  return between(ends);
}

async function fitSteps(
  model: ReturnType<typeof modelOf>,
  rows: Windows,
  { batch }: Size,
): Promise<number[]> {
  const ends = [performance.now()];
  const onStep = () => void ends.push(performance.now());
  await fit(model, { train: rows, steps, batch, lr: 1e-4, schedule: "constant", onStep });
  return between(ends);
}

/** Times between the ends of steps, without the first ones. */
function between(ends: readonly number[]): number[] {
  return ends.slice(1).map((end, i) => end - ends[i]!).slice(FIRST); // biome-ignore format: one line
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1]!;
}
