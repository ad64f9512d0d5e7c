// `npx tsx bench/gpu.ts [--json file] [--small]`: what is asked of a GPU only: products of 4096³ with weights stored
// in f32 and in f16, and a LoRA step of a model shaped like GPT-2 124M; f16 also with inputs rounded to f16, for
// tensor cores. Each after `tuneMatmul` has chosen its kernels. --small checks the script without a GPU.
import { parseArgs } from "node:util";
import { backward } from "../src/autograd/backward.ts";
import { cast, matmul } from "../src/autograd/ops/index.ts";
import { init } from "../src/gpu/device.ts";
import { tuneMatmul } from "../src/kernels/matmul_tune.ts";
import { type MatmulPrecision, setMatmulPrecision } from "../src/kernels/matmul_variant.ts";
import { measureRoofline } from "../src/kernels/roofline.ts";
import { addLora } from "../src/lora/index.ts";
import { AdamW, GPT2LMHeadModel } from "../src/nn/index.ts";
import { randn, tensor } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { conditions } from "../src/train/bench/timed.ts";
import type { BenchRow, Ready } from "./harness.ts";
import { measure } from "./measure.ts";
import { writeResults } from "./results.ts";
import { equalsDot, looksAlive } from "./verify.ts";

type Stored = "f32" | "f16";

const { values: options } = parseArgs({
  options: { json: { type: "string" }, small: { type: "boolean", default: false } },
});
const sizes = options.small
  ? { n: 64, batch: 2, length: 16, width: 64, layers: 2, heads: 2, vocabulary: 128, r: 4 }
  : {
      n: 4096,
      batch: 8,
      length: 1024,
      width: 768,
      layers: 12,
      heads: 12,
      vocabulary: 50257,
      r: 16,
    };

function product(stored: Stored, precision: MatmulPrecision): Ready {
  const { n } = sizes;
  const [wide, full] = [randn([n, n]), randn([n, n])];
  const a = precision === "high" ? cast(cast(wide, "f16"), "f32") : wide; // so that rounding changes nothing
  const b = stored === "f16" ? cast(full, "f16") : full;
  const run = () => matmul(a, b);
  const verify = async () =>
    equalsDot(
      run(),
      a,
      cast(b, "f32"),
      n,
      (k) => k,
      (k) => k * n,
    );
  return { run, flops: 2 * n ** 3, bytes: 4 * 2 * n * n + b.bytes, verify };
}

/** One step of AdamW on the adapters of every linear layer. */
function loraStep(stored: Stored): Ready {
  const { batch, length, width, layers, heads, vocabulary, r } = sizes;
  const model = new GPT2LMHeadModel({
    vocab_size: vocabulary,
    n_positions: length,
    n_embd: width,
    n_layer: layers,
    n_head: heads,
  });
  const lora = addLora(model, { r, lora_alpha: 2 * r, target_modules: "all-linear" });
  if (stored === "f16") {
    for (const [name, p] of model.stateDict()) {
      if (!name.endsWith("base_layer.weight")) continue;
      model.setParameter(name, cast(p, "f16"));
      p.dispose();
    }
  }
  const optimizer = new AdamW(lora.parameters(), { lr: 1e-4 });
  const text = () => Int32Array.from({ length: batch * length }, () => Math.random() * vocabulary);
  const [ids, targets] = [text(), text()].map((t) => tensor(t, [batch, length])) as [
    Tensor,
    Tensor,
  ];
  const run = () => {
    backward(model.loss(ids, targets));
    optimizer.step();
    optimizer.zeroGrad();
  };
  const products = layers * 12 * width * width + vocabulary * width;
  const flops = 4 * batch * length * (products + layers * length * width);
  return { run, flops, verify: () => looksAlive(model.loss(ids, targets)) };
}

/** The case, once the fastest kernels for its products are known. */
async function tuned(ready: Ready): Promise<Ready> {
  for (const { work, choice } of await tuneMatmul(ready.run)) {
    const { M, N, K, dtype } = work;
    console.log(`  [${M}, ${K}]·[${K}, ${N}] ${dtype}: ${choice.variant}, tile ${choice.tile}`);
  }
  return ready;
}

const CASES = [
  ["f32", "highest"],
  ["f16", "highest"],
  ["f16", "high"],
] as const;

const rows: (BenchRow & { precision: MatmulPrecision })[] = CASES.flatMap(([stored, precision]) => {
  const how = `weights ${stored}${precision === "high" ? ", inputs rounded to f16" : ""}`;
  return [
    {
      op: "gemm",
      name: `${sizes.n}³, ${how}`,
      precision,
      setup: () => tuned(product(stored, precision)),
    },
    { op: "gpt2", name: `LoRA step, ${how}`, precision, setup: () => tuned(loraStep(stored)) },
  ];
});

const gpu = await init();
const peak = await measureRoofline(gpu);
console.log(`${gpu.adapterClass}: ${gpu.description}`);
const results: { name: string; ms: number; gflops: number | null }[] = [];
for (const row of rows) {
  setMatmulPrecision(row.precision);
  try {
    const { wallTimeMs: ms, gflops } = (await measure(gpu, row, peak)).result;
    const name = `${row.op} ${row.name}`;
    results.push({ name, ms, gflops });
    console.log(`${name}: ${ms.toFixed(2)} ms, ${gflops?.toFixed(0)} GFLOP/s`);
  } catch (error) {
    process.exitCode = 1;
    console.error(`FAILED ${row.op} ${row.name}: ${(error as Error).stack}`);
  }
}
if (options.json) {
  const where = conditions("gpu", gpu.adapterClass, gpu.description);
  await writeResults(options.json, { ...where, peak, rows: results }, ({ name }) => name);
}
gpu.dispose();
