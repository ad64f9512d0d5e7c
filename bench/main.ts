// `npm run bench -- <filter> [--json file] [--profile]`: verifies and times the matching cases.
import { readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { fromHere } from "../scripts/from_here.ts";
import { init } from "../src/gpu/device.ts";
import { formatProfile } from "../src/kernels/profile.ts";
import { measureRoofline } from "../src/kernels/roofline.ts";
import { conditions } from "../src/train/bench/timed.ts";
import { benchRows } from "./harness.ts";
import { measure, type Result } from "./measure.ts";
import { writeResults } from "./results.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" }, profile: { type: "boolean", default: false } },
});
const folder = new URL(".", import.meta.url);
for (const file of readdirSync(folder).sort()) {
  if (file.endsWith(".bench.ts")) await import(new URL(file, folder).href);
}
const rows = benchRows(positionals.join(" "));
if (rows.length === 0) {
  console.error(`bench: no case matches "${positionals.join(" ")}".`);
  process.exit(1);
}

const gpu = await init();
const peak = await measureRoofline(gpu);
console.log(`${gpu.adapterClass}: ${gpu.description}`);
console.log(
  `at best ${peak.gflops.toFixed(1)} GFLOP/s in registers, ${peak.gbytesPerSecond.toFixed(1)} GB/s copied\n`,
);
console.log(
  line(["case", "GPU ms", "wall ms", "host ms", "±", "GFLOP/s", "GB/s", "of peak", "beside"]),
);
const results: Result[] = [];
let failures = 0;
for (const row of rows) {
  try {
    const { result, profiled } = await measure(gpu, row, peak);
    results.push(result);
    print(result);
    if (values.profile) console.log(`${formatProfile(profiled)}\n`);
  } catch (error) {
    failures += 1;
    console.error(`FAILED ${row.op} ${row.name}: ${(error as Error).stack}`);
  }
}
if (values.json) {
  const where = conditions("ops", gpu.adapterClass, gpu.description);
  const dated = results.map((row) => ({ ...row, date: where.date }));
  await writeResults(
    fromHere("bench", values.json),
    { ...where, peak, rows: dated },
    (r) => `${r.op} ${r.name}`,
  );
}
if (failures > 0) {
  console.error(`${failures} of ${rows.length} cases failed.`);
  process.exitCode = 1;
}
gpu.dispose();

function print(r: Result): void {
  console.log(
    line([
      `${r.op} ${r.name}`,
      number(r.gpuTimeMs, 3),
      number(r.wallTimeMs, 3),
      number(r.hostTimeMs, 3),
      `${Math.round(100 * r.spread)}%`,
      number(r.gflops, 1),
      number(r.gbytesPerSecond, 1),
      r.shareOfPeak === null ? "-" : `${Math.round(100 * r.shareOfPeak)}%`,
      r.beside === null ? "" : `${r.beside.times.toFixed(2)} ×`,
    ]),
  );
}

function number(value: number | null, digits: number): string {
  return value === null ? "-" : value.toFixed(digits);
}

function line(cells: readonly string[]): string {
  const [first = "", ...rest] = cells;
  return first.padEnd(56) + rest.map((cell) => cell.padStart(10)).join("");
}
