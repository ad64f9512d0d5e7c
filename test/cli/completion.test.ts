// `lowrank completion`: what shells complete by the scripts, in those shells where they are installed.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { makeProgram } from "../../src/cli/program.ts";
import { inFolder } from "../child.ts";
import { inProcess } from "./command.ts";

const has = (shell: string) => spawnSync(shell, ["-c", "true"]).status === 0;

async function scriptFor(shell: string): Promise<string> {
  const { code, stdout, stderr } = await inProcess(["completion", shell]);
  is(code, 0, stderr);
  return stdout;
}

test("every shell's script knows every command and every option", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const script = await scriptFor(shell);
    for (const command of makeProgram().commands) {
      ok(script.includes(command.name()), command.name());
      for (const { long } of command.options) {
        ok(
          script.includes(shell === "fish" ? `-l ${long!.slice(2)} ` : long!),
          `${shell}: ${long}`,
        );
      }
    }
  }
  const { code, stderr } = await inProcess(["completion", "csh"]);
  is(code, 2);
  match(stderr, "bash, zsh, fish");
});

/** What the script offers behind `line`, whose last word is being typed. */
type Complete = (file: string, line: readonly string[]) => string[];

const run = (shell: string, args: readonly string[]) => {
  const { stdout, stderr, status } = spawnSync(shell, args, { encoding: "utf8" });
  equal([status, stderr], [0, ""], shell);
  return stdout.split("\n").filter(Boolean);
};

const SHELLS: Readonly<Record<string, Complete>> = {
  bash: (file, line) => {
    const words = line.map((word) => `'${word}'`).join(" ");
    const call = `source ${file}; COMP_WORDS=(${words}); COMP_CWORD=${line.length - 1}; _lowrank`;
    return run("bash", ["--norc", "-c", `${call}; printf '%s\\n' "\${COMPREPLY[@]}"`]);
  },
  zsh: (file, line) => {
    // What the completion system would be given.
    const stub = `compdef() { :; }; _files() { :; }; _describe() { print -rl -- "\${(@P)2}"; }`;
    const words = line.map((word) => `'${word}'`).join(" ");
    const call = `source ${file}; words=(${words}); CURRENT=${line.length}; _lowrank`;
    return run("zsh", ["-f", "-c", `${stub}; ${call}`])
      .map((entry) => entry.split(":")[0]!)
      .filter((name) => name.startsWith(line.at(-1)!));
  },
  fish: (file, line) =>
    run("fish", ["--no-config", "-c", `source ${file}; complete -C '${line.join(" ")}'`]).map(
      (entry) => entry.split("\t")[0]!,
    ),
};

for (const [shell, complete] of Object.entries(SHELLS)) {
  if (!has(shell)) continue;
  test(`${shell} completes commands, options of the command, and leaves paths alone`, () =>
    inFolder(async (folder) => {
      const file = `${folder}/script`;
      writeFileSync(file, await scriptFor(shell));
      equal(complete(file, ["lowrank", "tra"]), ["train"]);
      ok(complete(file, ["lowrank", ""]).includes("doctor"));
      equal(complete(file, ["lowrank", "train", "--lora-d"]), ["--lora-dropout"]);
      equal(complete(file, ["lowrank", "report", "--lora-d"]), []);
      equal(complete(file, ["lowrank", "train", "-m", "base", "--qui"]), ["--quiet"]);
      ok(!complete(file, ["lowrank", "train", "-m", ""]).includes("doctor"));
    }));
}

test.run();
