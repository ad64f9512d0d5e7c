// `npm test [filter…]`: runs each test/**/*.test.ts in a process of its own, one after the other, and ends
// with `N passed, N failed` (`, N skipped`). A file that crashes, hangs or runs no test has failed.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs, stripVTControlCharacters } from "node:util";
import { init } from "../src/gpu/device.ts";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

interface Ended {
  output: string;
  code: number | null;
  timedOut: boolean;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    root: { type: "string", default: resolve(import.meta.dirname, "../test") },
    /** Seconds that one file may take. */
    limit: { type: "string", default: "300" },
  },
});

function runFile(path: string, limitSeconds: number): Promise<Ended> {
  return new Promise((done) => {
    // A group of its own, so that what the test started ends with it.
    const child = spawn(process.execPath, ["--import", "tsx", path], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    let timedOut = false;
    for (const pipe of [child.stdout, child.stderr]) {
      pipe.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    const timer = setTimeout(() => {
      timedOut = true;
      endGroup(child.pid);
    }, limitSeconds * 1000);
    child.on("close", (code) => {
      clearTimeout(timer);
      done({ output, code, timedOut });
    });
    child.on("error", (error) => done({ output: `${output}${error}`, code: null, timedOut }));
  });
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

/** Reads uvu's closing lines. What was to run but did not pass has failed, whatever else was printed. */
function count({ output, code, timedOut }: Ended): Count & { why: string } {
  const text = stripVTControlCharacters(output);
  const last = (name: string): number | undefined => {
    const found = [...text.matchAll(new RegExp(`^ *${name}: +(\\d+)$`, "gm"))].at(-1)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const total = last("Total");
  const passed = last("Passed") ?? 0;
  const skipped = last("Skipped") ?? 0;
  const failed = (total ?? 0) - passed;
  const broken = (why: string) => ({ passed, failed: Math.max(failed, 1), skipped, why });
  if (timedOut) return broken(`ran past its limit of ${values.limit} s`);
  if (total === undefined) return broken("ended without a result");
  if (total + skipped === 0) return broken("ran no test");
  if (failed > 0) return broken("");
  if (code !== 0) return broken(`passed, then ended with exit code ${code}`);
  return { passed, failed, skipped, why: "" };
}

async function announceDevice(): Promise<void> {
  try {
    using gpu = await init();
    console.log(`device: ${gpu.adapterClass}, ${gpu.description}`);
  } catch (error) {
    console.log(`device: none, tests that need one are skipped. ${(error as Error).message}`);
  }
}

async function main(): Promise<number> {
  const all = readdirSync(values.root, { recursive: true, encoding: "utf8" })
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => file.endsWith(".test.ts"))
    .sort();
  const files = all.filter(
    (f) => positionals.length === 0 || positionals.some((p) => f.includes(p)),
  );
  if (files.length === 0) {
    console.error(`no test file matches ${positionals.join(" ")} under ${values.root}`);
    return 1;
  }
  await announceDevice();
  const sum: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const file of files) {
    const started = performance.now();
    const ended = await runFile(join(values.root, file), Number(values.limit));
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const result = count(ended);
    for (const key of ["passed", "failed", "skipped"] as const) sum[key] += result[key];
    const mark = result.failed > 0 ? "FAIL" : "ok  ";
    console.log(`${mark} ${seconds.padStart(6)} s  ${line(result).padEnd(32)} ${file}`);
    if (result.failed > 0) {
      console.log(ended.output.replace(/^/gm, "    ").trimEnd());
      if (result.why) console.log(`    ${file} ${result.why}.`);
    }
  }
  console.log(line(sum));
  return sum.failed > 0 ? 1 : 0;
}

function line({ passed, failed, skipped }: Count): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

process.exitCode = await main();
