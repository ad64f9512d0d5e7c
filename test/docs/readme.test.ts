// README does what it says: its examples run, its table is that of the source.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { is, ok } from "uvu/assert";
import { readmeWithTable } from "../../scripts/op_table.ts";
import { gpuTest, runTests } from "../gpu.ts";

const root = resolve(import.meta.dirname, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!);

/** Runs TypeScript in an empty folder, with the package's names pointing at the source. */
function run(code: string): { folder: string; output: string } {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-readme-"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const local = code.replaceAll(/from "lowrank(\/\w+)?"/g, (_, room = "") => {
    return `from ${JSON.stringify(join(root, `src${room}/index.ts`))}`;
  });
  writeFileSync(join(folder, "example.mts"), local);
  const output = execFileSync(process.execPath, ["--import", "tsx", "example.mts"], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    timeout: 120_000,
  });
  return { folder, output };
}

gpuTest("README's research example trains", () => {
  const { folder, output } = run(examples[0]!);
  const losses = output
    .trim()
    .split("\n")
    .map((line) => Number(line.split(" ")[1]));
  is(losses.length, 5);
  ok(losses[4]! < losses[0]!, output);
  rmSync(folder, { recursive: true });
});

gpuTest("README's LoRA example saves an adapter and merges it", () => {
  const { folder, output } = run(examples[1]!);
  ok(output.includes("trainable"), output);
  ok(output.trim().endsWith(`${16 * 64}`), output);
  for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
    ok(existsSync(join(folder, "out/adapter", file)), file);
  }
  rmSync(folder, { recursive: true });
});

gpuTest("README's table of ops is up to date", () => {
  is(readmeWithTable(readme), readme, "run `npm run docs`");
  ok(readme.includes("`attention`"));
});

runTests();
