// The package: what is in it, and that it runs from an empty folder.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { buildPackage, type Manifest } from "../built.ts";
import { root, runNode } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";

const { files, app, installed, manifest } = buildPackage();

test("the package holds what was built from src, and nothing else of the repository", () => {
  const built = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `dist/${name.slice(0, -".ts".length)}`);
  ok(built.length > 50);
  const expected = built.flatMap((name) => [`${name}.js`, `${name}.d.ts`]);
  equal(files, [...expected, "LICENSE", "README.md", "package.json"].sort());
});

/** Every file that package.json names. */
function named({ exports, bin, browser, sideEffects }: Manifest): string[] {
  return [
    ...Object.values(exports).flatMap((e) => (typeof e === "string" ? [e] : Object.values(e))),
    ...Object.values(bin),
    ...Object.entries(browser).flat(),
    ...sideEffects,
  ].map((path) => path.replace(/^\.\//, ""));
}

test("every file that package.json names is in the package", () => {
  const doors = [
    ".",
    "./nn",
    "./lora",
    "./text",
    "./data",
    "./train",
    "./evaluation",
    "./recipe",
    "./sweep",
    "./hub",
    "./report",
    "./kernels",
    "./package.json",
  ];
  equal(Object.keys(manifest.exports), doors);
  equal(
    named(manifest).filter((path) => !files.includes(path)),
    [],
  );
  match(readFileSync(join(installed, manifest.bin.lowrank!), "utf8"), /^#!\/usr\/bin\/env node\n/);
});

/** Writes the examples of a page as files of the project. */
function examplesOf(page: string, name: string): string[] {
  const blocks = [...readFileSync(page, "utf8").matchAll(/```ts\n([\s\S]*?)```/g)];
  return blocks.map(([, code], i) => {
    writeFileSync(join(app, `${name}${i + 1}.mts`), code!);
    return `${name}${i + 1}.mts`;
  });
}

const examples = examplesOf(join(installed, "README.md"), "example");
const onModels = examplesOf(join(root, "docs/models.md"), "models");
const onTraining = examplesOf(join(root, "docs/training.md"), "training");
const onSweeps = examplesOf(join(root, "docs/sweeps.md"), "sweeps");

/** What the compiler says of some files of the project. */
function typed(names: readonly string[]) {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--typeRoots"];
  const types = join(root, "node_modules/@types");
  const args = [tsc, ...options, types, "--types", "node", ...names];
  return spawnSync(process.execPath, args, { cwd: app, encoding: "utf8" });
}

test("the examples of README and docs agree with the package's types, libraries checked too", () => {
  const pages = [examples, onModels, onTraining];
  ok(pages.every((page) => page.length > 0));
  const { status, stdout } = typed(pages.flat());
  is(status, 0, stdout);
  writeFileSync(join(app, "wrong.mts"), 'import { zeros } from "lowrank";\nzeros("two");\n');
  match(typed(["wrong.mts"]).stdout, /^wrong.mts\(2,7\): error TS2345/);
});

test("types of configurations are zod's, which is optional: with it the examples of sweeps agree too", () => {
  ok(onSweeps.length > 0);
  match(typed(onSweeps).stdout, "Cannot find module 'zod'");
  symlinkSync(join(root, "node_modules/zod"), join(app, "node_modules/zod"));
  const { status, stdout } = typed(onSweeps);
  is(status, 0, stdout);
});

gpuTest("README's examples and the command run from the installed package", async () => {
  const [research, lora] = await Promise.all(
    examples.map((name) => runNode(["--import", "tsx", name], {}, app)),
  );
  is(research!.code, 0, research!.stderr);
  is(research!.stdout.trim().split("\n").length, 5, research!.stdout);
  is(lora!.code, 0, lora!.stderr);
  const version = await runNode([join(installed, manifest.bin.lowrank!), "--version"], {}, app);
  is(version.stdout, `${manifest.version}\n`, version.stderr);
});

test("with the core alone the command can say its version, and what to install for the rest", async () => {
  const command = join(installed, manifest.bin.lowrank!);
  const [commands, help] = await Promise.all([
    runNode([command, "doctor", "--commands"], {}, app),
    runNode([command, "train", "--help"], {}, app),
  ]);
  is(commands.code, 0, commands.stderr);
  match(commands.stdout, "mesa");
  is(help.code, 2);
  match(help.stderr, "commander must be installed, got none. Run: npm install commander yaml zod");
});

runTests();
