// A disk that refuses: full, read-only, a file where a folder is to be. The error names the file, what was there stays
// whole, nothing is left half written, and no lock keeps the next call out.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, match, ok } from "uvu/assert";
import { copyOthers } from "../../src/lora/merge_folder.ts";
import { writeFileSafely } from "../../src/tensor/files.ts";
import { type Part, writeSafetensors } from "../../src/tensor/safetensors_file.ts";
import { FolderLock } from "../../src/train/folder_lock.ts";
import { checkOut } from "../../src/train/out_folder.ts";
import { MetricsFile } from "../../src/train/recipe/metrics_file.ts";
import { TrialsFile } from "../../src/train/sweep/trials_file.ts";
import { inFolder, runModule } from "../child.ts";

/** Every name that the next files may be written under leads to a device that is always full. */
function fill(path: string): void {
  const names = Array.from({ length: 200 }, (_, i) => `${path}.${process.pid}.${i}.tmp`);
  for (const name of names) symlinkSync("/dev/full", name);
}

/** `Class: message` of what a call throws. */
async function errorOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    const { name, message } = error as Error;
    return `${name}: ${message}`;
  }
  return "nothing was thrown";
}

const FULL = "must be a file that can be written, got ENOSPC: no space left on device.";

test("a full disk: the error says how many bytes a file of tensors needs, and the one before stays", () =>
  inFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    writeFileSync(path, "before");
    fill(path);
    const part: Part = {
      dtype: "f32",
      shape: [300_000],
      bytes: async () => new Uint8Array(1_200_000),
    };
    const message = await errorOf(() => writeSafetensors(path, new Map([["w", part]])));
    const needs = Number(message.match(/It needs ([\d,]+) bytes/)?.[1]?.replaceAll(",", ""));
    ok(needs > 1_200_000 && needs < 1_200_100, message);
    ok(message.startsWith(`DiskError: files: ${path} ${FULL}`), message);
    equal(readFileSync(path, "utf8"), "before");
  }));

test("a full disk: lines of metrics and of trials, and files beside a model, are named", () =>
  inFolder(async (folder) => {
    const metrics = join(folder, "metrics.jsonl");
    const file = await MetricsFile.open(metrics, false);
    file.add({ kind: "step", step: 1 });
    const again = await MetricsFile.open(metrics, true);
    const temporary = `${metrics}.${process.pid}.0.tmp`;
    symlinkSync("/dev/full", temporary);
    equal(
      (await errorOf(() => again.goOnAfter(1))).split(" What")[0],
      `DiskError: files: ${metrics} ${FULL}`,
    );
    ok(!existsSync(temporary), "nothing half written");
    equal(readFileSync(metrics, "utf8"), '{"kind":"step","step":1}\n');

    const full = join(folder, "full.jsonl");
    const lines = await MetricsFile.open(full, false);
    const trials = await TrialsFile.open(join(folder, "trials.jsonl"));
    writeFileSync(full, "");
    await replaceByFull(full);
    await replaceByFull(trials.path);
    match(await errorOf(() => lines.add({ kind: "step", step: 2 })), `files: ${full} ${FULL}`);
    match(await errorOf(() => trials.append({} as never)), `files: ${trials.path} ${FULL}`);
    equal(trials.lines, []);

    const [base, out] = [join(folder, "base"), join(folder, "out")];
    for (const one of [base, out]) mkdirSync(one);
    writeFileSync(join(base, "tokenizer.json"), "{}");
    mkdirSync(join(out, "tokenizer.json"));
    match(
      await errorOf(() => copyOthers(base, out)),
      `files: ${out}/tokenizer.json must be a file that can be written, got E`,
    );
  }));

async function replaceByFull(path: string): Promise<void> {
  const { rm } = await import("node:fs/promises");
  await rm(path, { force: true });
  symlinkSync("/dev/full", path);
}

test("a full disk: a lock that could not be written is not left, and keeps nobody out", () =>
  inFolder(async (folder) => {
    const code = `
      import { FolderLock } from "./src/train/folder_lock.ts";
      const { message } = await FolderLock.take("config", "output", ${JSON.stringify(folder)}).catch((e) => e);
      process.stdout.write(String(message));`;
    const { stdout, stderr } = await runLimited(code);
    match(stdout, `files: ${folder}/lock must be a file that can be written, got EFBIG`, stderr);
    equal(readdirSync(folder), []);
    const lock = await FolderLock.take("config", "output", folder);
    await lock.release();
  }));

/** Runs a module in a process of which no file may be longer than nothing. */
async function runLimited(code: string) {
  const { spawnSync } = await import("node:child_process");
  const words = ["--import", "tsx", "--input-type=module", "-e", code];
  const run = `ulimit -f 0; exec "$0" "$@"`;
  return spawnSync("bash", ["-c", run, process.execPath, ...words], { encoding: "utf8" });
}

test("a folder that cannot be made is named by its argument, and a file in its place too", () =>
  inFolder(async (folder) => {
    const file = join(folder, "file");
    writeFileSync(file, "mine");
    for (const [path, why] of [
      [file, `ENOTDIR: ${file} is no folder`],
      [`${file}/run`, "ENOTDIR: not a directory"],
    ] as const) {
      equal(
        await errorOf(() => FolderLock.take("config", "output", path)),
        `ValueError: config: output must be a folder that can be written, got ${path}: ${why}.`,
      );
    }
    const message = await errorOf(() => writeFileSafely(`${file}/page.html`, "page"));
    match(message, `DiskError: files: ${file}/page.html must be a file that can be written, got `);
    equal(readFileSync(file, "utf8"), "mine");
  }));

test("a model's folder that cannot be made is refused before anything is read", () =>
  inFolder(async (folder) => {
    const file = join(folder, "file");
    writeFileSync(file, "mine");
    equal(
      await errorOf(() => checkOut("merge", `${file}/deep/model`, [], false)),
      `ValueError: merge: out must be in a folder that can be written, got ${file}/deep/model: ENOTDIR: not a directory.`,
    );
    checkOut("merge", join(folder, "new/model"), [], false);
  }));

test("a folder that refuses new ones with ENOENT ends in an error, not in a loop", async () => {
  const { code, stdout } = await runModule(`
    import { writeFileSafely } from "./src/tensor/files.ts";
    await writeFileSafely("/proc/none/deep/file", "").catch(({ message }) => process.stdout.write(message));`);
  equal(
    [code, stdout.split(". ")[0]],
    [
      0,
      "files: /proc/none/deep/file must be a file that can be written, got ENOENT: no such file or directory",
    ],
  );
});

test("a full disk behind `>`: one line says so, with exit code 1", async () => {
  const { spawnSync } = await import("node:child_process");
  const full = openSync("/dev/full", "w");
  const words = ["--import", "tsx", "src/cli/main.ts", "completion", "bash"];
  const stdio = ["ignore", full, "pipe"] as const;
  const { status, stderr } = spawnSync(process.execPath, words, { encoding: "utf8", stdio: [...stdio] }); // biome-ignore format: one line
  closeSync(full);
  equal([status, stderr.trim().split("\n").length], [1, 1], stderr);
  match(stderr, `files: stdout ${FULL}`);
});

test.run();
