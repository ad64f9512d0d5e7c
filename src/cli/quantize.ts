// `lowrank quantize`: a model's folder with its linear layers in 8 bits or 4, and what that costs.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import { QUANTIZED_TYPES, type QuantizedType } from "../tensor/quantized.ts";
import {
  differenceOf,
  figuresOf,
  type RowDifference,
  type RowFigures,
  scoresOf,
} from "../train/evaluation/index.ts";
import { readRows } from "../train/evaluation/read_rows.ts";
import {
  checkQuantizable,
  type QuantizeReport,
  quantizeFolder,
} from "../train/quantize/quantize_folder.ts";
import { action, examples, number } from "./action.ts";
import { LateBar } from "./late_bar.ts";
import { checkSamples, collect, findModel, oneOf, openModel } from "./models.ts";
import type { Output } from "./output.ts";
import { bytesText, countText, figureText, table } from "./text.ts";

const EXAMPLES = examples({
  "lowrank quantize -m models/base -o models/base-nf4": "a base for QLoRA, in about a quarter of bf16's bytes", // biome-ignore format: one line
  "lowrank quantize -m org/name --dtype int8 -o models/base-int8 --data book.txt": "in half of them, and what that costs on a text", // biome-ignore format: one line
  "lowrank train -m models/base-nf4 -d data.jsonl -o out/run": "then every command takes the folder as any other", // biome-ignore format: one line
});

interface Options {
  model: string;
  dtype: QuantizedType;
  out: string;
  data?: string[];
  tokenizer?: string;
  limit: number;
  overwrite?: boolean;
}

/** Loss before and after on the same rows. */
interface Probe {
  data: string[];
  before: RowFigures;
  after: RowFigures;
  difference: RowDifference;
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .summary("writes a model with its linear layers in 8 bits or 4, and says what that costs")
    .description(
      "Writes a model's folder anew with the weights of all linear layers but the output head rounded:\n" +
        "nf4 in blocks of 64 with double quantisation, int8 with a scale for each row. The layout is that\n" +
        "of bitsandbytes, config.json says so, and Transformers reads it too. What such a folder computes\n" +
        "is bit for bit what --dtype makes of the original while it is loaded; it is smaller on disk and\n" +
        "loads faster. The folder appears whole or not at all.",
    )
    .requiredOption("-m, --model <folder>", "folder of the model, or org/name of the hub")
    .requiredOption("-o, --out <folder>", "gets the quantised model")
    .option("--dtype <type>", `what weights are rounded to: ${QUANTIZED_TYPES.join(", ")}`, oneOf("--dtype", QUANTIZED_TYPES), "nf4") // biome-ignore format: one line
    .option("-d, --data <path>", "JSONL, text or a folder: the loss before and after is measured on it; several times for several", collect) // biome-ignore format: one line
    .option("--tokenizer <folder>", "folder with tokenizer.json, or bytes (default: the model's)")
    .option(
      "--limit <n>",
      "rows of the data at most; spread evenly over it",
      number("--limit", "a positive integer"),
      64,
    )
    .option("--overwrite", "replaces a model's folder that is there")
    .addHelpText("after", EXAMPLES)
    .action(action<Options>(quantize));
}

async function quantize(output: Output, options: Options): Promise<void> {
  const { dtype, out, overwrite = false } = options;
  const found = await findModel(output, { model: options.model });
  await checkQuantizable(found.model, out, overwrite);
  await checkSamples(options.data ?? []);
  await init();
  const scores = options.data ? await scoresIn(output, found.model, options) : null;
  const bar = new LateBar(output, "quantising");
  const report = await quantizeFolder(found.model, dtype, out, {
    overwrite,
    onPhase: (phase) => output.note(`${phase} …`),
    onProgress: ({ bytesDone, bytesTotal }) => bar.update(bytesDone, bytesTotal),
  });
  bar.end();
  const probe = scores && (await probeOf(output, out, scores, options));
  output.document({ model: found.model, out, ...report, probe });
  output.say(reportText(found.model, out, report, probe));
}

type Scores = Awaited<ReturnType<typeof scoresOf>>;

async function scoresIn(output: Output, folder: string, options: Options): Promise<Scores> {
  const { data = [], limit } = options;
  const tokenized = options.tokenizer === undefined ? {} : { tokenizer: options.tokenizer };
  const { model, tokenizer } = await openModel(output, { model: folder, adapters: [] }, tokenized);
  try {
    const { rows, notes } = await readRows(tokenizer, data, { maxLength: model.sizes.maxLength });
    for (const note of notes) output.note(note);
    const bar = new LateBar(output, "measuring the loss");
    const scores = await scoresOf(model, rows, { most: limit, onRow: (done, of) => bar.update(done, of) }); // biome-ignore format: one line
    bar.end();
    return scores;
  } finally {
    model.dispose();
  }
}

async function probeOf(
  output: Output,
  out: string,
  before: Scores,
  options: Options,
): Promise<Probe> {
  const after = await scoresIn(output, out, options);
  const { data = [] } = options;
  return { data, before: figuresOf(before), after: figuresOf(after), difference: differenceOf(before, after) }; // biome-ignore format: one line
}

function reportText(
  model: string,
  out: string,
  report: QuantizeReport,
  probe: Probe | null,
): string {
  const { type, bytesBefore, bytesAfter, kinds } = report;
  const head = [
    "layers",
    "number",
    "parameters",
    "before",
    "after",
    "largest error",
    "‖error‖/‖W‖",
  ];
  const rows = kinds.map((k) => [
    k.name,
    `${k.layers}`,
    countText(k.parameters),
    bytesText(k.bytesBefore),
    bytesText(k.bytesAfter),
    figureText(k.largestError, 3),
    figureText(k.relativeError, 3),
  ]);
  const share = ((100 * bytesAfter) / bytesBefore).toFixed(0);
  const lines = [
    `Quantised ${model} to ${type} in ${out}: ${bytesText(bytesAfter)} instead of ${bytesText(bytesBefore)} (${share} %).`, // biome-ignore format: one line
    table(head, rows),
  ];
  if (probe) {
    const { before, after, difference } = probe;
    const { low, high } = difference.loss;
    lines.push(
      `Loss on ${probe.data.join(", ")}: ${figureText(before.loss.value)} before, ${figureText(after.loss.value)} after; ` +
        `added ${figureText(difference.loss.value, 3)} (${figureText(low, 3)} to ${figureText(high, 3)}) over ${countText(before.tokens)} tokens.`,
    );
  }
  return lines.join("\n\n");
}
