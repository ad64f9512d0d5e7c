// `lowrank merge`: adapters become part of a model's weights.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import { COMBINATIONS, type CombinationType } from "../lora/combine.ts";
import type { WeightType } from "../nn/fit_checkpoint.ts";
import {
  type FolderCertificate,
  type MergeToFolderOptions,
  mergeToFolder,
  type WeightedFolder,
} from "../train/merge/merge_to_folder.ts";
import { action, examples, number } from "./action.ts";
import { UsageError } from "./errors.ts";
import { LateBar } from "./late_bar.ts";
import { collect, findModel, oneOf } from "./models.ts";
import type { Output } from "./output.ts";
import { bytesText, figureText } from "./text.ts";

const EXAMPLES = examples({
  "lowrank merge -a out/run --out models/mine":
    "a model of its own, with no work left at inference",
  "lowrank merge -m models/base -a out/run -o models/mine --dtype bf16":
    "in half the bytes, rounded once",
  "lowrank merge -m models/base -a out/a:0.7 -a out/b:0.3 -o models/both": "two adapters, weighted: exactly the sum of their updates", // biome-ignore format: one line
  "lowrank merge -m models/base -a out/a -a out/b -o models/both --combination ties --density 0.5": "by another rule of PEFT's", // biome-ignore format: one line
  "lowrank merge -m models/base-nf4 -a out/run -o models/mine --dtype bf16": "QLoRA's usual end: into the dequantised weights that it was trained beside", // biome-ignore format: one line
  "lowrank merge -m models/large -a out/run -o models/mine --stream --no-certificate": "a model larger than memory", // biome-ignore format: one line
});

interface Options {
  model?: string;
  adapter?: string[];
  out: string;
  dtype?: WeightType;
  combination?: CombinationType;
  density?: number;
  svdRank?: number;
  requantize?: boolean;
  stream?: boolean;
  certificate: boolean;
  overwrite?: boolean;
}

export function addMerge(program: Command): void {
  program
    .command("merge")
    .summary("merges adapters into a model's weights, with a certificate")
    .description(
      "Merges adapters into a model's weights, and writes a folder that Transformers loads too. Sums\n" +
        "are f32; what is not finite is refused. merge_certificate.json beside the weights says how far\n" +
        "logits moved on a probe, measured on the model as it was written, and bounds each layer's error.\n" +
        "The folder appears whole or not at all.",
    )
    .option("-m, --model <folder>", "folder of the model, or org/name of the hub (default: the base that the adapter names)") // biome-ignore format: one line
    .option("-a, --adapter <folder>", "folder of an adapter or of a run, perhaps folder:weight; several times for several", collect) // biome-ignore format: one line
    .requiredOption("-o, --out <folder>", "gets the merged model")
    .option("--dtype <type>", "what weights are written as: f32, f16, bf16 (default: as the base has them)", oneOf("--dtype", ["f32", "f16", "bf16"])) // biome-ignore format: one line
    .option("--combination <type>", `how several become one: ${COMBINATIONS.join(", ")} (default: cat, exactly their sum)`, oneOf("--combination", COMBINATIONS)) // biome-ignore format: one line
    .option("--density <share>", "of the types that prune: the share of values that stay", number("--density")) // biome-ignore format: one line
    .option("--svd-rank <r>", "of svd and …_svd: the rank", number("--svd-rank", "a positive integer"))
    .option("--requantize", "of a quantised base: rounds the sum to its type again, and says how much of the adapter that lost") // biome-ignore format: one line
    .option("--stream", "one tensor after the other, in the memory of the largest; one adapter of weight 1") // biome-ignore format: one line
    .option("--no-certificate", "compares no logits, for which the models are loaded")
    .option("--overwrite", "replaces a model's folder that is there")
    .addHelpText("after", EXAMPLES)
    .action(action<Options>(merge));
}

async function merge(output: Output, options: Options): Promise<void> {
  const asked = (options.adapter ?? []).map(weighted);
  const refuse = (arg: string, expected: string, got: string) => {
    throw new UsageError({ op: "lowrank", arg, expected, got });
  };
  if (asked.length === 0) refuse("--adapter", "given", "nothing");
  if (options.combination && asked.length < 2) refuse("--combination", "given for several adapters", "one"); // biome-ignore format: one line
  const { combination: way = "cat" } = options;
  if (options.density !== undefined && !/ties|dare|prune/.test(way)) refuse("--density", "given with a --combination that prunes", way); // biome-ignore format: one line
  if (options.svdRank !== undefined && !way.includes("svd")) refuse("--svd-rank", "given with --combination svd or …_svd", way); // biome-ignore format: one line
  const sources = asked.map(({ source }) => source);
  const found = await findModel(output, { ...options, adapter: sources, dtype: "auto" });
  const adapters: WeightedFolder[] = found.adapters.map((a, i) => ({
    ...a,
    weight: asked[i]!.weight,
  }));
  await init();
  const { certificate: certify, dtype, combination, density, svdRank, requantize } = options;
  const { stream, overwrite } = options;
  const given = { dtype, combination, density, svdRank, requantize, stream, certify, overwrite };
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  let bar = new LateBar(output, "loading");
  const certificate = await mergeToFolder(found.model, adapters, options.out, {
    ...(Object.fromEntries(set) as MergeToFolderOptions),
    onPhase: (phase) => {
      bar.end();
      output.note(`${phase} …`);
      bar = new LateBar(output, phase);
    },
    onProgress: ({ bytesDone, bytesTotal }) =>
      bar.update(bytesDone, bytesTotal, `${bytesText(bytesDone)} of ${bytesText(bytesTotal)}`),
  });
  bar.end();
  output.document({ model: found.model, adapters, out: options.out, certificate });
  output.say(mergedText(options.out, certificate));
}

/** `folder:0.7`; without a number the weight is 1. */
export function weighted(text: string): { source: string; weight: number } {
  const [, source, weight] = text.match(/^(.+):([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i) ?? [];
  return source === undefined ? { source: text, weight: 1 } : { source, weight: Number(weight) };
}

function mergedText(out: string, certificate: FolderCertificate | null): string {
  if (!certificate) return `Merged into ${out}, without a certificate.`;
  const { maxLogitDifference, maxLogit, probe, layers, adapters } = certificate;
  const bounds = Object.entries(layers).sort(([, a], [, b]) => b.bound - a.bound);
  const lines = [
    `Merged ${adapters.join(" + ")} into ${out}.`,
    `Certificate: logits moved by at most ${figureText(maxLogitDifference, 3)}, where the largest is ` +
      `${figureText(maxLogit, 3)}, on a probe of ${probe.join(" × ")} tokens.`,
  ];
  const [worst] = bounds;
  if (worst) {
    const [path, { bound, dtype }] = worst;
    lines.push(`Of ${bounds.length} layers the widest bound is that of ${path} (${dtype}): an error of at most ${figureText(bound, 3)}·‖x‖.`); // biome-ignore format: one line
  }
  const { requantized: lost } = certificate;
  if (lost) {
    const [kept, layers] = [(100 * lost.kept).toFixed(0), Object.keys(lost.layers).length];
    lines.push(
      `Rounded to ${lost.type} again: ${kept} % of the update is left in ${layers} layers, beside an error of ${figureText(lost.error, 3)} times its size.`, // biome-ignore format: one line
    );
    lines.push(`The adapter moves logits by at most ${figureText(lost.maxLogitUpdate, 3)}; of that, the written model is off by at most ${figureText(maxLogitDifference, 3)}.`); // biome-ignore format: one line
    if (lost.error > 1)
      lines.push("There is more error than update: use --dtype, or the adapter beside its base.");
  }
  return lines.join("\n");
}
