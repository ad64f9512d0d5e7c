// `lowrank bench`: how fast this device is, or a model on it.
import type { Command } from "commander";
import { type Gpu, init } from "../gpu/device.ts";
import { measureRoofline, type Roofline } from "../kernels/roofline.ts";
import { BASE_DTYPES, type BaseDtype } from "../train/base_dtype.ts";
import { benchDevice, DEVICE_ROWS, type DeviceRow } from "../train/bench/bench_device.ts";
import { benchModel, type ModelBench, type ModelBenchOptions } from "../train/bench/bench_model.ts";
import { type Conditions, conditions } from "../train/bench/timed.ts";
import { action, examples, number } from "./action.ts";
import { UsageError } from "./errors.ts";
import { findModel, oneOf } from "./models.ts";
import type { Output } from "./output.ts";
import { bytesText, countText, figureText, pairs, table } from "./text.ts";

const EXAMPLES = examples({
  "lowrank bench": "products, sums, a LoRA layer, a training step and generation on this device",
  "lowrank bench --device swiftshader": "the same on another one",
  "lowrank bench -m models/base":
    "loading, training and generation of a model, and its bytes by type",
  "lowrank bench -m models/base --dtype nf4 --batch 4 --length 128 --json": "held in 4 bits; for a script", // biome-ignore format: one line
});

interface Options {
  model?: string;
  dtype?: BaseDtype;
  rank?: number;
  batch?: number;
  length?: number;
  seconds?: number;
  quick?: boolean;
  loadOnly?: boolean;
}

export function addBench(program: Command): void {
  program
    .command("bench")
    .summary("measures this device, or a model on it")
    .description(
      "Measures this device at the sizes of small language models, in less than a minute. With --model:\n" +
        "seconds and peak memory of the host for each GB that is loaded, bytes of the base by type, tokens\n" +
        "a second of training an adapter, and of generating from the base, with the adapter, and merged.\n" +
        "Times are medians; let nothing else run beside it.",
    )
    .option("-m, --model <folder>", "folder of the model, or org/name of the hub")
    .option("--dtype <type>", `of the model: what its weights are held as: ${BASE_DTYPES.join(", ")} (default: auto)`, oneOf("--dtype", BASE_DTYPES)) // biome-ignore format: one line
    .option(
      "--rank <r>",
      "of the model: rank of the adapter on all its linear layers (default: 16)",
      number("--rank", "a positive integer"),
    )
    .option("--batch <n>", "of the model: rows of a training step (default: 1)", number("--batch", "a positive integer")) // biome-ignore format: one line
    .option(
      "--length <n>",
      "of the model: tokens of a row (default: 64, or the context)",
      number("--length", "a positive integer"),
    )
    .option("--seconds <s>", "for each figure (default: 1, of a model 3)", number("--seconds"))
    .option("--quick", "of the device: smaller sizes, for slow ones")
    .option("--load-only", "of the model: loads it, and no more")
    .addHelpText("after", EXAMPLES)
    .action(action<Options>(bench));
}

async function bench(output: Output, options: Options): Promise<void> {
  const { model, dtype, rank, batch, length, seconds, loadOnly } = options;
  if (seconds !== undefined && !(seconds > 0 && seconds < 3600)) {
    const expected = "above 0 and below 3600";
    throw new UsageError({ op: "lowrank", arg: "--seconds", expected, got: `${seconds}` });
  }
  checkFlags(options);
  const found = model === undefined ? null : await findModel(output, { model });
  const gpu = await init();
  const { adapterClass, description } = gpu;
  const where = conditions(found ? "model" : "device", adapterClass, description);
  if (!found) return ofDevice(output, gpu, where, options);
  const given = { dtype, rank, batch, length, seconds, loadOnly };
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  const row = await benchModel(gpu, found.model, {
    ...(Object.fromEntries(set) as ModelBenchOptions),
    onPhase: (phase) => output.note(`${phase} …`),
  });
  output.document({ ...where, rows: [{ model: found.model, ...row }] });
  output.say([whereText(where), modelText(found.model, row)].join("\n\n"));
}

/** Flags that say something of a model need one; the device's own sizes are fixed. */
function checkFlags(options: Options): void {
  const { model, quick, dtype, rank, batch, length, loadOnly } = options;
  if (model !== undefined && quick) {
    throw new UsageError({ op: "lowrank", arg: "--quick", expected: "given without --model", got: "both" }); // biome-ignore format: one line
  }
  if (model !== undefined) return;
  const ofModel = { "--dtype": dtype, "--rank": rank, "--batch": batch, "--length": length, "--load-only": loadOnly }; // biome-ignore format: one line
  for (const [arg, value] of Object.entries(ofModel)) {
    if (value === undefined) continue;
    const facts = { arg, expected: "given with --model", got: "none" };
    const hint = "Without a model the device is measured at sizes of its own.";
    throw new UsageError({ op: "lowrank", ...facts, hint });
  }
}

async function ofDevice(
  output: Output,
  gpu: Gpu,
  where: Conditions,
  { seconds, quick = false }: Options,
) {
  const bar = output.bar("measuring", DEVICE_ROWS);
  const peak = await measureRoofline(gpu);
  const rows = await benchDevice(gpu, {
    ...(seconds === undefined ? {} : { seconds }),
    quick,
    onRow: ({ name }, done) => bar.update(done, name),
  });
  bar.end();
  output.document({ ...where, peak, rows });
  output.say([whereText(where), deviceText(rows, peak)].join("\n\n"));
}

const whereText = ({ adapter, driver, cpu, cores }: Conditions) =>
  `${adapter}: ${driver}; ${cpu}, ${cores} cores`;

function deviceText(rows: readonly DeviceRow[], peak: Roofline): string {
  const cell = (v: number | null, digits: number) => (v === null ? "" : v.toFixed(digits));
  const lines = rows.map((r) => [
    r.name,
    cell(r.ms, 2),
    r.spread === null ? "" : `${Math.round(100 * r.spread)} %`,
    cell(r.gflops, 1),
    cell(r.gbytesPerSecond, 1),
    cell(r.tokensPerSecond, 0),
  ]);
  const best = `At best ${peak.gflops.toFixed(1)} GFLOP/s in registers, ${peak.gbytesPerSecond.toFixed(1)} GB/s copied.`; // biome-ignore format: one line
  return `${table(["", "ms", "±", "GFLOP/s", "GB/s", "tokens/s"], lines)}\n\n${best}`;
}

function modelText(folder: string, found: ModelBench): string {
  const { load, baseBytes, training, generation } = found;
  const speed = (v: number | null) => (v === null ? "not on quantised weights" : `${figureText(v, 3)} tokens/s`); // biome-ignore format: one line
  const touch = load.touchSecondsPerGB === null ? "" : `, of which fresh memory alone takes ${figureText(load.touchSecondsPerGB, 2)}`; // biome-ignore format: one line
  const rows: [string, string][] = [
    ["model", `${folder}, ${countText(found.parameters)} parameters, held as ${found.dtype === "auto" ? "stored" : found.dtype}`], // biome-ignore format: one line
    ["checkpoint", bytesText(found.checkpointBytes)],
    [
      "load",
      `${figureText(load.seconds, 3)} s, ${figureText(load.secondsPerGB, 3)} s per GB${touch}`,
    ],
    ["host memory", `${bytesText(load.hostBytes)} at most beside the device's buffers, ${bytesText(load.hostBytesPerGB)} per GB; ${bytesText(load.arrayBytes)} in JavaScript's buffers`], // biome-ignore format: one line
    ["device", bytesText(load.deviceBytes)],
    ["base as", Object.entries(baseBytes).map(([type, n]) => `${type} ${n === null ? "-" : bytesText(n)}`).join(", ")], // biome-ignore format: one line
  ];
  if (training) {
    const { rank, batch, length, ms, tokensPerSecond } = training;
    rows.push(["training", `${speed(tokensPerSecond)}: LoRA r ${rank}, ${batch} × ${length} tokens in ${figureText(ms, 3)} ms`]); // biome-ignore format: one line
  }
  if (generation) {
    rows.push(["generation", `${speed(generation.base)}; eight prompts at once ${speed(generation.base8)}`]); // biome-ignore format: one line
    rows.push(["  with the adapter", speed(generation.adapter)]);
    rows.push(["  merged", speed(generation.merged)]);
  }
  return pairs(rows);
}
