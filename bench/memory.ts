// `npx tsx bench/memory.ts`: peak GPU bytes of a training step beside what the formulas give, LoRA beside
// full fine-tuning, and LoRA with gradient checkpointing.
import { parseArgs } from "node:util";
import { backward } from "../src/autograd/backward.ts";
import { init } from "../src/gpu/device.ts";
import { formatMemory, type MemoryReport } from "../src/gpu/memory.ts";
import { clipGradNorm } from "../src/nn/optim/index.ts";
import { tensor } from "../src/tensor/create.ts";
import { scope } from "../src/tensor/scope.ts";
import {
  type Family,
  formulaBytes,
  type MemorySizes,
  type Method,
  STATED,
  trainingSetup,
} from "./memory_model.ts";

/** How far above the formulas the peak of a LoRA step may be. */
const MOST = 1.15;
const options = Object.fromEntries(
  Object.keys(STATED).map((name) => [name, { type: "string" as const }]),
);
const { values } = parseArgs({ options: { ...options, table: { type: "boolean" } } });
const sizes = { ...STATED };
for (const name of Object.keys(STATED) as (keyof MemorySizes)[]) {
  const given = (values as Record<string, unknown>)[name];
  if (given !== undefined) sizes[name] = Number(given);
}

const gpu = await init();
console.log(`${gpu.adapterClass}: ${gpu.description}`);
console.log(
  Object.entries(sizes)
    .map(([name, n]) => `${name} ${n}`)
    .join(", "),
);
const head = [
  "model",
  "measured MB",
  "formula MB",
  "ratio",
  "state MB",
  "activations MB",
  "LoRA/full",
];
console.log(head.map((cell, i) => (i === 0 ? cell.padEnd(14) : cell.padStart(16))).join(""));
for (const family of ["gpt2", "llama"] as const) {
  const full = peakOfStep(family, "full");
  const lora = peakOfStep(family, "lora");
  const again = peakOfStep(family, "lora", true);
  if (lora.measured > MOST * lora.formula.total || lora.measured >= full.measured) {
    console.error(
      `FAILED ${family}: LoRA must stay within ${MOST} of the formulas and below full.`,
    );
    process.exitCode = 1;
  }
  print(`${family} full`, full, null);
  print(`${family} LoRA`, lora, lora.measured / full.measured);
  print(`  checkpointed`, again, again.measured / full.measured);
}
gpu.dispose();

interface Peak {
  measured: number;
  formula: ReturnType<typeof formulaBytes>;
  report: MemoryReport;
}

/**
 * The peak of the second step: the first makes what later ones reuse.
 * @param checkpointing  compute layers again in backward
 */
function peakOfStep(family: Family, method: Method, checkpointing = false): Peak {
  using _ = scope();
  const before = gpu.stats().bytesLive;
  const { model, optimizer } = trainingSetup(family, method, sizes);
  model.gradientCheckpointing = checkpointing;
  const { batch, context, vocabulary } = sizes;
  const ids = tensor(
    Int32Array.from({ length: batch * context }, (_, i) => (i * 7) % vocabulary),
    [batch, context],
  );
  const step = () => {
    using _ = scope();
    backward(model.loss(ids, ids));
    clipGradNorm(optimizer, 1);
    optimizer.step();
    optimizer.zeroGrad();
  };
  step();
  gpu.resetPeak();
  step();
  const report = gpu.memory();
  const formula = formulaBytes(model, family, method, sizes);
  optimizer.dispose();
  model.dispose();
  return { measured: report.total.peak - before, formula, report };
}

function print(name: string, { measured, formula, report }: Peak, share: number | null): void {
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  const { categories: c } = report;
  const state = c.base.atPeak + c.adapters.atPeak + c.gradients.atPeak + c.optimiser.atPeak;
  const cells = [
    mb(measured),
    mb(formula.total),
    (measured / formula.total).toFixed(3),
    mb(state),
    mb(c.activations.atPeak),
    share === null ? "" : share.toFixed(3),
  ];
  console.log(name.padEnd(14) + cells.map((cell) => cell.padStart(16)).join(""));
  if (values.table) console.log(`${formatMemory(report)}\n`);
}
