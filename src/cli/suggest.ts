// `lowrank suggest`: the settings that a training run would do well to begin with, and why.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import { suggest, writeConfigFile } from "../train/recipe/index.ts";
import { action, examples } from "./action.ts";
import { UsageError } from "./errors.ts";
import type { Output } from "./output.ts";
import { suggestionText } from "./suggest_text.ts";
import { addTrainFlags, askedConfig, type TrainOptions } from "./train_flags.ts";
import { TrainProgress } from "./train_progress.ts";

const EXAMPLES = examples({
  "lowrank suggest -m models/base -d book.txt": "sizes, memory, steps, settings, and why these",
  "lowrank suggest -m models/base -d chats.jsonl -o out/chats --write chats.yaml": "the same as a file, for lowrank train -c chats.yaml", // biome-ignore format: one line
  "lowrank suggest -m org/name -d book.txt --memory 6GiB": "settings whose step fits the memory",
  "lowrank suggest -m models/base -d book.txt --r 64 --epochs 1": "what is given stays as it is",
  "lowrank suggest -m models/base -d book.txt --json | jq .memory.bytes": "for a script",
});

interface Options extends TrainOptions {
  memory?: string;
  write?: string;
}

export function addSuggest(program: Command): void {
  const command = program
    .command("suggest")
    .summary("suggests settings for a model and data, and says why")
    .description(
      "Looks at a model's sizes and at data, and prints settings to begin with, each with its reason; the\n" +
        "memory of a step by category; how many steps there would be; and a warning where the text says\n" +
        "more than an adapter has room for, or so little that it is learnt by heart. No weight is read.\n\n" +
        "It takes the flags of lowrank train: what they set stays as it is.",
    );
  addTrainFlags(command)
    .option(
      "--memory <bytes>",
      "what training may take, such as 4GiB or 800MB: a step is made to fit",
    )
    .option("--write <file>", "writes the settings as YAML, or as JSON where it ends in .json")
    .addHelpText("after", EXAMPLES)
    .action(action<Options>(run));
}

async function run(output: Output, options: Options): Promise<void> {
  const { raw, origin } = await askedConfig(options);
  const { model, data } = raw as { model?: unknown; data?: { train?: unknown } };
  for (const [arg, value] of Object.entries({ "--model": model, "--data": data?.train })) {
    if (value !== undefined) continue;
    throw new UsageError({ op: "lowrank", arg, expected: "given", got: "nothing" });
  }
  const memory = options.memory === undefined ? undefined : bytesOf(options.memory);
  const progress = new TrainProgress(output);
  await init();
  try {
    const { onDownload, onPhase } = progress.hooks();
    const found = await suggest(raw, {
      ...{ origin, onDownload, onPhase },
      ...(memory === undefined ? {} : { memory }),
    });
    progress.end();
    if (options.write !== undefined) {
      await writeConfigFile(options.write, found.settings, found.choices);
    }
    output.document(found);
    output.say(suggestionText(found, options.write ?? null));
  } finally {
    progress.end();
  }
}

const UNITS: Readonly<Record<string, number>> = {
  ...{ "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 },
  ...{ kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 },
};

/** `4GiB`, `800 MB`, `1e9`. */
function bytesOf(text: string): number {
  const [, digits, unit = ""] = text.match(/^([\d.]+(?:e\d+)?)\s*([a-z]*)$/i) ?? [];
  const bytes = Number(digits) * (UNITS[unit.toLowerCase()] ?? Number.NaN);
  if (bytes > 0) return bytes;
  throw new UsageError({
    op: "lowrank",
    arg: "--memory",
    expected: "bytes, such as 4GiB or 800MB",
    got: `"${text}"`,
  });
}
