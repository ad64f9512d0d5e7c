// The command line, read by commander: every command of src/cli, with help and errors in one voice.
import { Command, CommanderError, type Option } from "commander";
import { version } from "../train/version.ts";
import { list } from "./action.ts";
import { addBench } from "./bench.ts";
import { addCompletion } from "./completion.ts";
import { addDoctor } from "./doctor_command.ts";
import { complain } from "./errors.ts";
import { addEval } from "./eval.ts";
import { addGenerate } from "./generate.ts";
import { addInspect } from "./inspect.ts";
import { addMerge } from "./merge.ts";
import { collect } from "./models.ts";
import { Output } from "./output.ts";
import { addQuantize } from "./quantize.ts";
import { addReport } from "./report.ts";
import { addSuggest } from "./suggest.ts";
import { addSweep } from "./sweep.ts";
import { addTrain } from "./train.ts";

/** Each puts one command into the program. In the order of `lowrank --help`. */
const COMMANDS: readonly ((program: Command) => void)[] = [
  addDoctor,
  addSuggest,
  addTrain,
  addSweep,
  addEval,
  addGenerate,
  addInspect,
  addMerge,
  addQuantize,
  addReport,
  addBench,
  addCompletion,
];

const ENVIRONMENT = `
Environment:
  LOWRANK_ADAPTER  gpu, lavapipe, swiftshader, or a part of an adapter's name; as --device
  LOWRANK_CACHE    where the embedded software device is unpacked (default: ~/.cache/lowrank)
  LOWRANK_DEBUG    set: errors come with their stack
  HF_HOME, HF_TOKEN, HF_HUB_OFFLINE  as Hugging Face's own tools read them

Exit codes: 0 done, 1 failed, 2 called wrongly, 130 interrupted.
Each command explains itself: lowrank <command> --help`;

/** The whole command, ready to parse. */
export function makeProgram(): Command {
  const program = new Command("lowrank")
    .description("LoRA fine-tuning of language models on WebGPU, on any GPU or none")
    .usage("<command> [options]")
    .version(version(), "-V, --version", "prints the version")
    .option("--json", "prints one JSON document on stdout, and nothing else there")
    .option("--quiet", "shows no progress and no notes")
    .option("--device <name>", "gpu, lavapipe, swiftshader, or a part of an adapter's name")
    .addHelpText("after", ENVIRONMENT);
  program.helpCommand("help [command]", "shows the help of a command");
  program.hook("preAction", (_, command) => {
    const { device } = command.optsWithGlobals<{ device?: string }>();
    if (device !== undefined) process.env.LOWRANK_ADAPTER = device;
  });
  for (const add of COMMANDS) add(program);
  for (const command of [program, ...allCommands(program)]) speak(command);
  tellRepeats(program);
  return program;
}

/** All commands under one, at any depth. */
export function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)]);
}

/** Help and errors as they are everywhere; commander's own exits become errors. */
function speak(command: Command): void {
  command
    .description(command.description().replace(/(?<!\n)\n(?!\n)/g, " ")) // wrapped to the terminal
    .exitOverride()
    .helpOption("-h, --help", "shows this")
    .configureHelp({ showGlobalOptions: command.parent !== null, visibleGlobalOptions })
    .configureOutput({ outputError: (text, write) => write(restyled(command, text)) });
}

/** What gathers the values of a flag that may stand several times. */
const LISTS: ReadonlySet<unknown> = new Set([collect, list]);

/** Says before a command begins which values do not count, for the same flag or setting stands again behind them. */
function tellRepeats(program: Command): void {
  const repeats: string[] = [];
  for (const command of [program, ...allCommands(program)]) {
    for (const option of command.options) {
      const isSetting = option.flags.includes("="); // --set <key=value>
      if (!option.required || (LISTS.has(option.parseArg) && !isSetting)) continue;
      const before = new Map<string, string>();
      command.on(`option:${option.name()}`, (given: string) => {
        const key = isSetting ? given.replace(/=.*/s, "") : "";
        const was = before.get(key);
        if (was !== undefined)
          repeats.push(`${option.long} ${given} counts, not ${was} before it.`);
        before.set(key, given);
      });
    }
  }
  program.hook("preAction", (_, command) => {
    const output = new Output(command.optsWithGlobals());
    for (const text of repeats) output.note(text);
  });
}

/** The options that every command has, without those that are the program's alone. */
function visibleGlobalOptions(command: Command): Option[] {
  const above: Option[] = [];
  for (let at = command.parent; at; at = at.parent) above.push(...at.options);
  return above.filter(({ long }) => long !== "--version");
}

/** `error: unknown option '--x'\n(Did you mean --y?)` in this library's voice. */
function restyled(command: Command, text: string): string {
  const isError = text.startsWith("error: ");
  if (!isError) return text;
  const [what, guess] = text.slice("error: ".length).trim().split("\n");
  const name = nameOf(command);
  const hint = guess ? ` ${guess.replace(/^\((.*)\)$/, "$1")}` : "";
  return `${name}: ${what!.replace(/\.$/, "")}.${hint} See ${name} --help.\n`;
}

/** `lowrank sweep`, as it is typed. */
function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

/**
 * Runs a command line.
 * @param args  what stands behind `lowrank`
 * @returns the exit code
 */
export async function run(args: readonly string[]): Promise<number> {
  process.exitCode = undefined;
  try {
    await makeProgram().parseAsync(args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (!(error instanceof CommanderError)) return complain(error);
    // Commander has printed what there is to say; help that nobody asked for is a wrong call.
    return error.exitCode === 0 ? 0 : 2;
  }
}
