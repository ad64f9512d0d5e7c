#!/usr/bin/env node
// The `lowrank` command. Exit codes: 0 done, 1 it failed, 2 it was called wrongly.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { doctor } from "./doctor.ts";

interface Command {
  about: string;
  run(args: string[]): Promise<number> | number;
}

const commands: Readonly<Record<string, Command>> = {
  doctor: {
    about: "shows the device that is used here, what it can do, and how to get a faster one",
    run: (args) => {
      const { values } = parseArgs({ args, options: { commands: { type: "boolean" } } });
      return doctor(values.commands ? "commands" : "report");
    },
  },
};

const help = `lowrank: tensors, autograd and LoRA fine-tuning on WebGPU

usage: lowrank <command> [options]

commands:
${Object.entries(commands)
  .map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  .join("\n")}

options:
  --help     shows this
  --version  shows the version
  doctor --commands   prints only the commands that install a faster software device

environment:
  LOWRANK_ADAPTER  gpu, lavapipe, swiftshader, or a part of an adapter's name
  LOWRANK_CACHE    where the embedded software device is unpacked (default: ~/.cache/lowrank)`;

/** The version in package.json; it lies two folders up from src/cli and from dist/cli. */
export function version(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--version" || name === "-v") return say(version(), 0);
  if (name === undefined) return complain(help);
  if (name === "help" || rest.includes("--help") || name === "--help" || name === "-h") {
    return say(help, 0);
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) return complain(unknownCommand(name));
  try {
    return await command.run(rest);
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    if (code?.startsWith("ERR_PARSE_ARGS")) return complain(`lowrank ${name}: ${message}`);
    console.error(message);
    return 1;
  }
}

function unknownCommand(name: string): string {
  const known = Object.keys(commands);
  const nearest = known.find((k) => distance(k, name) <= Math.max(2, k.length / 3));
  const hint = nearest ? `Did you mean ${nearest}?` : `There is ${known.join(", ")}.`;
  return `lowrank: unknown command ${JSON.stringify(name)}. ${hint} See lowrank --help.`;
}

/** How many letters must be inserted, removed or changed to turn a into b. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

function say(text: string, code: number): number {
  console.log(text);
  return code;
}

function complain(text: string): number {
  console.error(text);
  return 2;
}

process.exitCode = await main(process.argv.slice(2));
