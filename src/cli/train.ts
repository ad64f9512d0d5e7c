// `lowrank train`: a model learns a text, by an adapter or as a whole.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import { formatProfile, type Profile } from "../kernels/profile.ts";
import {
  armOf,
  compareMethods,
  Interrupted,
  type RunHooks,
  type RunSummary,
  resolveConfig,
  trainRun,
} from "../train/recipe/index.ts";
import { action, examples, list } from "./action.ts";
import { comparisonText } from "./comparison_text.ts";
import { INTERRUPTED } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import type { Output } from "./output.ts";
import { addTrainFlags, askedConfig, checkGiven, type TrainOptions } from "./train_flags.ts";
import { TrainProgress } from "./train_progress.ts";
import { runText } from "./train_text.ts";

const EXAMPLES = examples({
  "lowrank train -m models/base -d book.txt -o out/book": "an adapter of rank 16 on all linear layers; a tenth of the text is held out", // biome-ignore format: one line
  "lowrank train -m org/name -d chats.jsonl -o out/chat --epochs 2 --general wiki.txt": "a model of the hub learns chats; what it forgets is seen on other text", // biome-ignore format: one line
  "lowrank train -m models/base -d notes.txt -o out/notes --lora-dropout 0.1 --patience 3": "a small text: ends when the held-out loss rises, and keeps the best weights", // biome-ignore format: one line
  "lowrank train -c run.yaml --lr 1e-3 --set training.clip=0.5": "settings from a file, and flags over them", // biome-ignore format: one line
  "lowrank train --resume -o out/book": "goes on after Ctrl-C or a crash, with the same bits",
  "lowrank train -m models/base -d book.txt -o out/both --method lora,full --lr lora=1e-3,full=1e-4": "two methods over the same data, in out/both/lora and out/both/full, side by side", // biome-ignore format: one line
  "lowrank train -c run.yaml --json --quiet | jq .valid": "for a script",
});

const HOW = `
A file of settings has the keys of run.json's "config"; one that is unknown is refused with the nearest:
  model: models/base
  output: out/book
  data: { train: book.txt, general: wiki.txt }
  lora: { r: 16, lora_alpha: 32, target_modules: all-linear }
  training: { epochs: 3, batch: 8, lr: 2e-4 }

Keys without a flag, for a file or --set; lora takes all fields of PEFT's LoraConfig:
  data.rows                       packed (default), padded or windows of a text
  data.bucketed                   padded rows of about one length together
  data.learn                      completions (default) or all, prompts too
  data.turns                      of a chat all answers (default) or the last one
  data.split_seed                 chooses which samples are held out
  data.augment.token_dropout      share of the tokens read that become random ones
  data.augment.mixing             share of packed texts that see those before them
  data.replay.texts               how many texts the base writes for --self-replay (default: 256), and
  data.replay.temperature         how it draws them,
  data.replay.seed                by which seed,
  data.replay.file                and where they are kept, for other runs too
  training.clip                   largest norm of the gradients (default: 1)
  training.seconds                ends after so long, and saves; --resume goes on
  training.on_non_finite          stop (default) or skip: a step whose loss or gradient is no number
  training.min_delta              by how much a look must be better to count for --patience
  training.eval_rows              rows of each held-out set per look (default: 64)
  training.checkpoint_every       steps between checkpoints (default: --eval-every, or a tenth of all); 0: none
  training.loraplus_lr_ratio      how many times faster B learns with lora+ (default: 16)
  training.capture                false: no step is replayed

Ctrl-C ends after the step and saves; a second Ctrl-C ends at once. Either way --resume goes on from
the last checkpoint.`;

export function addTrain(program: Command): void {
  const command = program
    .command("train")
    .summary("fine-tunes a model on your text, by LoRA or in full")
    .description(
      "Fine-tunes a model on text, on prompts with completions, or on chats. What there is then is an\n" +
        "adapter in PEFT's files (--method full: a whole model), with what it learnt and, on --general,\n" +
        "what it forgot. All of a run lies in the folder --out: run.json, metrics.jsonl, adapter/,\n" +
        "checkpoint/.",
    );
  addTrainFlags(command)
    .option("--resume", "goes on with the run in --out; without -c and -m by its own settings")
    .option("--profile", "profiles a step in the end: a table by op, and trace.json for ui.perfetto.dev") // biome-ignore format: one line
    .addHelpText("after", HOW)
    .addHelpText("after", EXAMPLES)
    .action(action<TrainOptions>(train));
}

async function train(output: Output, options: TrainOptions): Promise<number> {
  const asked = await askedConfig(options);
  checkGiven(asked, options);
  const { raw, origin } = asked;
  const methods = methodsOf(raw.method);
  for (const method of methods) resolveConfig(armOf(raw, method, methods, origin), origin);
  const progress = new TrainProgress(output);
  const profiles: Profile[] = [];
  const call = (signal: AbortSignal): Call => ({
    ...{ output, raw, methods, profiles, progress },
    hooks: {
      ...progress.hooks(),
      ...(options.profile ? { onProfile: (profile: Profile) => void profiles.push(profile) } : {}),
      ...{ origin, signal, command: ["lowrank", ...process.argv.slice(2)] },
    },
  });
  try {
    return await interruptible(
      (signal) => (methods.length > 1 ? several : one)(call(signal)),
      () => output.note("\nEnds after this step and saves; Ctrl-C again ends at once."),
    );
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    output.note(error.message);
    return INTERRUPTED;
  } finally {
    progress.end();
  }
}

interface Call {
  output: Output;
  raw: object;
  methods: readonly string[];
  /** Gets what is profiled. */
  profiles: Profile[];
  progress: TrainProgress;
  hooks: RunHooks;
}

async function one({ output, raw, methods, hooks, profiles, progress }: Call): Promise<number> {
  await init();
  const run = await trainRun(armOf(raw, methods[0]!, methods, hooks.origin), hooks);
  progress.end();
  output.document(run);
  for (const profile of profiles) {
    output.say(`${formatProfile(profile)}\nTrace: ${run.folder}/trace.json\n`);
  }
  output.say(runText(run));
  return codeOf([run]);
}

async function several({ output, raw, methods, hooks, profiles, progress }: Call): Promise<number> {
  await init();
  const onArm = (method: string, i: number, count: number) => {
    progress.end();
    output.note(`${method}, ${i + 1} of ${count} methods`);
  };
  const comparison = await compareMethods(raw, methods, { ...hooks, onArm });
  progress.end();
  output.document(comparison);
  const { arms } = comparison;
  for (const [i, profile] of profiles.entries()) {
    output.say(`${arms[i]!.method}: ${formatProfile(profile)}\n`);
  }
  output.say(comparisonText(comparison));
  const isCut = arms.length < methods.length || arms.some(({ stopped }) => stopped === "aborted");
  if (isCut) output.note("Interrupted; the same call with --resume goes on.");
  return isCut ? INTERRUPTED : codeOf(arms);
}

/** A run that came to a number that is none has failed, though what it learnt before is saved. */
function codeOf(runs: readonly { stopped: RunSummary["stopped"] }[]): number {
  if (runs.some(({ stopped }) => stopped === "aborted")) return INTERRUPTED;
  return runs.some(({ stopped }) => stopped === "nonFinite") ? 1 : 0;
}

/** One method, or the several of a list. */
function methodsOf(asked: unknown): string[] {
  if (Array.isArray(asked)) return asked.map(String);
  return typeof asked === "string" ? list(asked) : ["lora"];
}
