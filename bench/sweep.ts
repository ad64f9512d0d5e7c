// Eight trials through the trainer, side by side and one after another: time of a step of all, memory, same losses.
//   npx tsx bench/sweep.ts [steps]
import { gpu, init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/lora.ts";
import { GPT2LMHeadModel } from "../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../src/nn/llama.ts";
import { manualSeed } from "../src/tensor/philox.ts";
import { fit } from "../src/train/fit.ts";
import type { FitOptions, FitResult } from "../src/train/fit_options.ts";
import { SideBySide } from "../src/train/fit_side_by_side.ts";
import { Windows } from "../src/train/windows.ts";

const RANKS = [2, 4, 8, 8, 16, 16, 32, 4];
const T = 64;
const ROUNDS = 3;
/** Steps before those that count: two are run by the model's code, then they are replayed. */
const EARLY = 3;

const steps = Number(process.argv[2] ?? 9);
const configOf = (r: number) => ({ r, lora_dropout: 0.1, target_modules: "all-linear" });
const tokens = Int32Array.from({ length: 4000 }, (_, i) => (i * i * 7) % 512);

function gpt2(width: number) {
  const sizes = { n_positions: T, n_embd: width, n_layer: 4, n_head: 4 };
  return new GPT2LMHeadModel({ vocab_size: 512, ...sizes });
}

function llama(width: number) {
  const sizes = { hidden_size: width, intermediate_size: 2 * width, num_hidden_layers: 4 };
  const others = { num_attention_heads: 4, max_position_embeddings: T };
  return new LlamaForCausalLM({ vocab_size: 512, ...sizes, ...others });
}

/** Milliseconds of the process on all cores, since it was asked last. */
function processorMs(): number {
  const { user, system } = process.cpuUsage(last);
  last = process.cpuUsage();
  return (user + system) / 1000;
}
let last = process.cpuUsage();

/** Of one step of all trials: wall time, and what the processor had to do. */
interface Cost {
  wall: number;
  processor: number;
  bytes: number;
  baseBytes: number;
  losses: number[][];
}

/** Trains with options that note the time of the steps that count. */
async function timed(
  train: (watched: Pick<FitOptions, "onStep">) => Promise<FitResult[]>,
): Promise<Omit<Cost, "bytes" | "baseBytes">> {
  let began = 0;
  const onStep: FitOptions["onStep"] = ({ step }) => {
    if (step !== EARLY) return;
    processorMs();
    began = performance.now();
  };
  const results = await train({ onStep });
  const n = steps - EARLY;
  const cost = { wall: (performance.now() - began) / n, processor: processorMs() / n };
  return { ...cost, losses: results.map(({ losses }) => losses) };
}

async function costOf(model: GPT2LMHeadModel | LlamaForCausalLM, batch: number, beside: boolean) {
  const options = { train: new Windows(tokens, T), steps, batch, lr: 1e-3 };
  gpu("bench").resetPeak();
  const sum = { wall: 0, processor: 0, losses: [] as number[][] };
  const add = ({ wall, processor, losses }: typeof sum) => {
    sum.wall += wall;
    sum.processor += processor;
    sum.losses.push(...losses);
  };
  if (beside) {
    const adapters = RANKS.map((r, seed) => [`t${seed}`, { config: configOf(r), seed }] as const);
    using all = await SideBySide.add(model, new Map(adapters));
    add(
      await timed(async (watched) => {
        const own = RANKS.map((_, i) => [`t${i}`, i === 0 ? { ...options, ...watched } : options] as const); // biome-ignore format: one line
        const results = [...(await all.fit(new Map(own))).values()];
        for (const result of results) if (result instanceof Error) throw result;
        return results as FitResult[];
      }),
    );
  } else {
    for (const [seed, r] of RANKS.entries()) {
      manualSeed(seed);
      const lora = addLora(model, configOf(r));
      add(await timed(async (watched) => [await fit(model, { ...options, ...watched })]));
      lora.undo();
    }
  }
  const { total, categories } = gpu("bench").memory();
  return { ...sum, bytes: total.peak, baseBytes: categories.base.peak };
}

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[values.length >> 1]!;
const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

await init();
for (const [family, make] of Object.entries({ gpt2, llama })) {
  for (const [width, batch] of [
    [128, 1],
    [128, 4],
    [256, 2],
  ] as const) {
    // biome-ignore format: one line
    manualSeed(3);
    const model = make(width).requiresGrad(false);
    const rounds: [Cost, Cost][] = [];
    for (let i = 0; i < ROUNDS; i++) {
      rounds.push([await costOf(model, batch, false), await costOf(model, batch, true)]);
    }
    const same = rounds.every(([a, b]) => JSON.stringify(a.losses) === JSON.stringify(b.losses));
    const ratio = (key: "wall" | "processor") => median(rounds.map(([a, b]) => b[key] / a[key]));
    const [[alone, beside]] = rounds as [[Cost, Cost]];
    console.log(
      `${family}, width ${width}, ${batch}×${T} tokens each: ${ratio("wall").toFixed(2)} of the time of one after another, ` +
        `${ratio("processor").toFixed(2)} of the processor's; base ${mib(alone.baseBytes)} and ${mib(beside.baseBytes)}, ` +
        `all ${mib(alone.bytes)} and ${mib(beside.bytes)}; losses ${same ? "the same" : "DIFFER"}`,
    );
    model.dispose();
  }
}
process.exit(0);
