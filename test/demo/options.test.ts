// The demo's command line, run as a user runs it: from where they stand.
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { is, ok } from "uvu/assert";
import { prepareFolder, readOptions } from "../../examples/demo/options.ts";
import { arms } from "../../examples/demo/settings.ts";
import { LowrankError } from "../../src/gpu/errors.ts";
import { inFolder, root, runNode } from "../child.ts";

const npm = (args: readonly string[], cwd: string) =>
  new Promise<{ code: unknown; stderr: string }>((done) => {
    execFile("npm", args, { cwd }, (error, _, stderr) => done({ code: error?.code ?? 0, stderr }));
  });

function withEnv<T>(env: Record<string, string>, body: () => T): T {
  const before = { ...process.env };
  Object.assign(process.env, env);
  try {
    return body();
  } finally {
    process.env = before;
  }
}

test("paths are relative to where npm was called", async () => {
  const ended = await npm(["run", "demo", "--", "--text", "none.txt"], join(root, "test/demo"));
  is(ended.code, 1);
  ok(ended.stderr.includes(join(root, "test/demo/none.txt")), ended.stderr);
  ok(ended.stderr.includes("no such file"), ended.stderr);
  ok(!ended.stderr.includes("    at "), ended.stderr);
});

test("without npm, paths are relative to the current folder, whatever npm left behind", () =>
  inFolder(async (folder) => {
    writeFileSync(join(folder, "empty.txt"), "");
    const demo = join(root, "examples/demo/main.ts");
    const loader = join(root, "node_modules/tsx/dist/loader.mjs");
    const env = { INIT_CWD: root, npm_lifecycle_event: "test" };
    const ended = await runNode(["--import", loader, demo, "--text", "empty.txt"], env, folder);
    is(ended.code, 1, ended.stderr);
    ok(ended.stderr.includes("empty.txt must be at least"), ended.stderr);
  }));

test("options: defaults, and both paths resolved", () => {
  const npmIn = { npm_lifecycle_event: "demo", INIT_CWD: join(root, "docs") };
  const chosen = withEnv(npmIn, () =>
    readOptions(["--text", "a.txt", "--out", "b", "--steps", "9"]),
  );
  is(chosen.text, join(root, "docs/a.txt"));
  is(chosen.out, join(root, "docs/b"));
  is(chosen.steps, 9);
  const plain = withEnv(npmIn, () => readOptions([]));
  is(plain.text, undefined);
  is(plain.out, join(root, "out/demo"));
  is(plain.steps, arms.steps);
});

const refused = (args: readonly string[], part: string) => {
  try {
    readOptions(args);
  } catch (error) {
    ok(error instanceof LowrankError, `${error}`);
    ok(error.message.includes(part), error.message);
    return;
  }
  ok(false, `${args} was taken`);
};

test("options that make no sense are refused", () => {
  for (const steps of ["1", "0", "-5", "2.5", "many"]) {
    refused([`--steps=${steps}`], `--steps must be an integer above 1, got ${steps}`);
  }
  refused(["--steps="], "--steps must be an integer above 1, got nothing");
  refused(["--stepps", "5"], "--stepps");
  refused(["--text"], "--text");
  refused(["my.txt"], "my.txt");
});

test("a folder for the results that cannot be is refused before anything is trained", () =>
  inFolder(async (folder) => {
    mkdirSync(join(folder, "good"));
    await prepareFolder(join(folder, "good/new/deep"));
    writeFileSync(join(folder, "file"), "");
    for (const bad of ["file", "file/below"]) {
      const error = await prepareFolder(join(folder, bad)).catch((e) => e);
      ok(error instanceof LowrankError, `${bad}: ${error}`);
      ok(error.message.includes("--out must be a folder that can be written to"), error.message);
    }
  }));

test.run();
