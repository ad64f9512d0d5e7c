// The package: what is in it, and that it runs from an empty folder.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
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
  equal(Object.keys(manifest.exports), [".", "./nn", "./lora", "./kernels", "./package.json"]);
  equal(
    named(manifest).filter((path) => !files.includes(path)),
    [],
  );
  match(readFileSync(join(installed, manifest.bin.lowrank!), "utf8"), /^#!\/usr\/bin\/env node\n/);
});

gpuTest("README's first example and the command run from the installed package", async () => {
  const readme = readFileSync(join(installed, "README.md"), "utf8");
  writeFileSync(join(app, "example.mts"), readme.match(/```ts\n([^`]+)```/)![1]!);
  const ended = await runNode(["--import", "tsx", "example.mts"], {}, app);
  is(ended.code, 0, ended.stderr);
  is(ended.stdout.trim().split("\n").length, 5, ended.stdout);
  const version = await runNode([join(installed, manifest.bin.lowrank!), "--version"], {}, app);
  is(version.stdout, `${manifest.version}\n`, version.stderr);
});

runTests();
