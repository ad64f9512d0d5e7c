// README's performance section is what the results say.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "uvu";
import { is, match, ok, throws } from "uvu/assert";
import type { Ratio } from "../../bench/measure.ts";
import type { PeerRow } from "../../bench/peers/rows.ts";
import {
  loraWithBases,
  performanceSection,
  readmeWithPerformance,
  readResults,
} from "../../scripts/performance.ts";
import { conditions } from "../../src/train/bench/timed.ts";

const root = resolve(import.meta.dirname, "../..");

test("README agrees with the newest results", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  is(readmeWithPerformance(readme), readme, "run `npm run docs`");
  ok(readme.includes("| gemm NT 512×768×768 |"));
});

test("docs/lora.md agrees with the newest results", () => {
  const text = readFileSync(join(root, "docs/lora.md"), "utf8");
  is(loraWithBases(text), text, "run `npm run docs`");
  ok(/\n\| nf4 \| [\d,]+ \| [\d,]+ \|/.test(text));
});

test("a model's rows: bytes by type once, speeds for each type that it was held as", () => {
  const load = { secondsPerGB: 3.06, touchSecondsPerGB: 1, hostBytes: 15e6 };
  const generation = { base: 5.123, base8: 30, adapter: 4, merged: null };
  const baseBytes = { f32: 4e9, bf16: 2e9, int8: null, nf4: 6e8 };
  const of = (dtype: string) => ({
    ...{ dtype, parameters: 1e9, checkpointBytes: 2e9, load, baseBytes, generation },
    training: { tokensPerSecond: 12.345 },
  });
  const results = { ...conditions("model", "lavapipe", "a driver"), rows: [of("nf4"), of("auto")] };
  const section = performanceSection([results]);
  ok(section.includes("| 1 billion | 2 GB, as stored | 3.1 (1) | 15 MB | 12.3 | 5.12 | 30 | 4 | - |"), section); // biome-ignore format: one line
  ok(section.includes("| 1 billion | 2 GB, nf4 |"), section);
  is(section.split("4,000,000 kB, 32 bits | 2,000,000 kB, 16 bits | - | 600,000 kB, 4.8 bits |").length, 2, section); // biome-ignore format: one line
});

const row = (date: string, times: Record<string, number | null>): PeerRow => ({
  name: "gemm",
  flops: 1e7,
  date,
  libraries: Object.entries(times).map(([id, ms]) => ({ id, name: id, ms, rounds: [], why: null })),
});

const peers = (date: string, rows: PeerRow[]) => ({
  ...conditions("peers", "lavapipe", "a driver"),
  date,
  rows,
});

test("ratios are those of the run that both were in, of the newest one", () => {
  const early = row("2026-01-01", { lowrank: 4, tfjs: 8 });
  const late = row("2026-01-02", { lowrank: 2, pytorch: 1, "jax-js": null });
  const section = performanceSection([peers("2026-01-02", [early, late])]);
  ok(section.includes("| gemm | 2.00 | 5.0 | 2.0 × | cannot |  | 0.50 × |"), section);
});

test("multiples are those of the turns, and those that something else disturbed are not shown", () => {
  const shape = (name: string, wallTimeMs: number, beside: Partial<Ratio> | null) => ({
    ...{ op: "lora_shapes", name: `128 tokens, ${name}`, wallTimeMs, shareOfPeak: 0.5, beside },
  });
  const rows = [
    shape("merged", 2, null),
    shape("r 4, fused", 3, { times: 1.5, spread: 0.3 }),
    shape("r 4, unfused", 4, { times: 2.5, spread: 0.02 }),
  ];
  const section = performanceSection([{ ...conditions("ops", "lavapipe", "a driver"), rows }]);
  ok(section.includes("| 128 tokens | 2.00 | 50 % | ? / 2.50 |"), section);
});

test("of two files for one adapter the newer is shown", () => {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-performance-"));
  const write = (name: string, content: object) =>
    writeFileSync(join(folder, name), JSON.stringify(content));
  try {
    write("a.json", peers("2026-02-01", [row("2026-02-01", { lowrank: 3 })]));
    write("b.json", peers("2026-01-01", [row("2026-01-01", { lowrank: 7 })]));
    const section = performanceSection(readResults(folder));
    match(section, /\| gemm \| 3\.00 \|/);
    ok(!section.includes("7.00"), section);
    write("c.json", { bench: "peers", rows: [] });
    throws(() => readResults(folder), /c\.json must name adapter, driver, cpu, date, got none/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
