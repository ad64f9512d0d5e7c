// The command's frame: help, version, wrong calls, exit codes.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { test } from "uvu";
import { equal, is, match, not } from "uvu/assert";
import { action, list, number } from "../../src/cli/action.ts";
import type { Output } from "../../src/cli/output.ts";
import { allCommands, makeProgram } from "../../src/cli/program.ts";
import { FLAGS } from "../../src/cli/train_flags.ts";
import { allKeys } from "../../src/train/recipe/index.ts";
import { root } from "../child.ts";
import { throwsLike } from "../gpu.ts";
import { inProcess, lowrank } from "./command.ts";

test("--help and --version: exit code 0; called wrongly: exit code 2 and a hint", async () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const calls: [string[], number, "stdout" | "stderr", string | RegExp][] = [
    [["--help"], 0, "stdout", /Usage: lowrank <command>.* doctor .*LOWRANK_ADAPTER/s],
    [["doctor", "--help"], 0, "stdout", /--commands.*Global Options:.*--json.*Examples:/s],
    [["help", "doctor"], 0, "stdout", "Usage: lowrank doctor"],
    [["--version"], 0, "stdout", new RegExp(`^${version}\n$`)],
    [[], 2, "stderr", "Usage: lowrank <command>"],
    [
      ["docter"],
      2,
      "stderr",
      "lowrank: unknown command 'docter'. Did you mean doctor? See lowrank --help.",
    ],
    [["toString"], 2, "stderr", "unknown command 'toString'. See lowrank --help."],
    [
      ["doctor", "--comands"],
      2,
      "stderr",
      "lowrank doctor: unknown option '--comands'. Did you mean --commands? See lowrank doctor --help.",
    ],
    [["doctor", "voodoo"], 2, "stderr", "lowrank doctor: too many arguments"],
  ];
  for (const [args, code, pipe, expected] of calls) {
    const ended = await inProcess(args);
    is(ended.code, code, args.join(" "));
    match(ended[pipe], expected);
    is(ended[pipe === "stdout" ? "stderr" : "stdout"], "", args.join(" "));
  }
});

test("train --help names every key of a configuration: by its flag, or as one that --set reaches", async () => {
  const { stdout } = await inProcess(["train", "--help"]);
  const flags = new Set(FLAGS.map(({ key }) => key));
  for (const key of allKeys()) {
    if (key === "lora" || key === "resume") continue;
    is(stdout.includes(`\n  ${key} `), !flags.has(key), key);
  }
});

test("the exit code is the process's", async () => {
  const [good, wrong] = await Promise.all([lowrank(["--version"]), lowrank(["docter"])]);
  equal([good!.code, wrong!.code], [0, 2]);
});

test("every command says what it does, in the list and in its own help, with examples", () => {
  for (const command of allCommands(makeProgram())) {
    if (command.name() === "help") continue;
    not.equal(command.summary(), "", command.name());
    not.equal(command.description(), "", command.name());
    let help = "";
    command.configureOutput({
      writeOut: (text) => {
        help += text;
      },
    });
    command.outputHelp();
    if (command.commands.length === 0) match(help, "\nExamples:\n  # ", command.name());
    for (const { flags, description } of command.options) not.equal(description, "", flags);
  }
});

test("an action's number is the exit code, and options of the program reach it", async () => {
  const program = new Command("x").option("--json");
  let seen: object = {};
  const body = async (output: Output, options: object, ...args: string[]) => {
    seen = { json: output.json, ...options, args };
    return 3;
  };
  program.command("y <name>").option("--z").action(action(body));
  const before = process.exitCode;
  await program.parseAsync(["y", "n", "--z", "--json"], { from: "user" });
  is(process.exitCode, 3);
  process.exitCode = before;
  equal(seen, { json: true, z: true, args: ["n"] });
});

test("a signal that nothing else heeds is an exit, for which bars give the cursor back", async () => {
  const exits: unknown[] = [];
  const { exit } = process;
  process.exit = ((code: number) => void exits.push(code)) as typeof exit;
  const before = [process.listenerCount("SIGINT"), process.listenerCount("exit")];
  const ended = process.exitCode;
  const other = () => {};
  try {
    const program = new Command("x").exitOverride();
    program.command("y").action(
      action(async (output: Output) => {
        process.emit("SIGINT", "SIGINT");
        process.on("SIGINT", other); // as training does, which saves
        process.emit("SIGINT", "SIGINT");
        process.off("SIGINT", other);
        process.emit("SIGTERM", "SIGTERM");
        is(process.listeners("exit").length, before[1]! + 1);
        output.end();
      }),
    );
    await program.parseAsync(["y"], { from: "user" });
    equal(exits, [130, 143]);
    equal([process.listenerCount("SIGINT"), process.listenerCount("exit")], before);
  } finally {
    process.exit = exit;
    process.exitCode = ended;
    process.off("SIGINT", other);
  }
});

test("of a flag with one value, or a setting, the last counts, and that is said; lists add up", async () => {
  const train = ["train", "-m", "nowhere", "-d", "a", "-d", "b", "-o", "out"];
  const calls: [string[], string][] = [
    [["-m", "there"], "--model there counts, not nowhere before it."],
    [["--lr", "1e-3", "--lr=1e-2"], "--lr 1e-2 counts, not 1e-3 before it."],
    [["--set", "seed=1", "--set", "seed=2"], "--set seed=2 counts, not seed=1 before it."],
    [["--device", "x", "--device", "y"], "--device y counts, not x before it."],
    [["--lr", "1e-3", "--set", "training.lr=1e-2"], "training.lr must be given once, got --lr and --set training.lr."], // biome-ignore format: one line
  ];
  const device = process.env.LOWRANK_ADAPTER;
  for (const [more, expected] of calls) {
    const { code, stderr } = await inProcess([...train, ...more]);
    is(code, 2, more.join(" "));
    match(stderr, expected);
    not.match((await inProcess([...train, ...more, "--quiet"])).stderr, "before it");
  }
  const lists = ["--json", "--json", "--set", "seed=1", "--set", "training.clip=1"];
  const { stderr } = await inProcess([...train, ...lists]);
  match(stderr, /^config: model must be .*, got nowhere, which is not there\.\n$/);
  if (device === undefined) delete process.env.LOWRANK_ADAPTER;
  else process.env.LOWRANK_ADAPTER = device;
});

test("numbers and lists of the command line", () => {
  is(number("--lr")("1e-3"), 1e-3);
  for (const text of ["", "x", "1x", " "]) {
    throwsLike(() => number("--lr")(text), "UsageError", `--lr must be a number, got "${text}"`);
  }
  equal(list("b, c,", ["a"]), ["a", "b", "c"]);
});

test.run();
