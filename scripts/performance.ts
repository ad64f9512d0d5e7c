// README's performance section and the table of bases in docs/lora.md, made from bench/results: `npm run docs`.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Ratio, Result } from "../bench/measure.ts";
import { CASES } from "../bench/peers/cases.ts";
import type { PeerRow, PeerTimes } from "../bench/peers/rows.ts";
import type { QLoraRow } from "../bench/qlora.ts";
import type { Results } from "../bench/results.ts";
import { writeFileSafely } from "../src/tensor/files.ts";
import type { ModelBench } from "../src/train/bench/bench_model.ts";
import type { Conditions } from "../src/train/bench/timed.ts";
import { baseBytesTable, markdownTable, modelTable, qloraTable } from "./model_tables.ts";

const root = resolve(import.meta.dirname, "..");

/** What bench/gpu.ts and bench/cuda.py write. */
interface LargeRow {
  name: string;
  ms: number | null;
  gflops?: number | null;
}

/** Of times whose quartiles lie further from the median than this, something else had its part: not shown. */
const MOST_SPREAD = 0.1;

/** Libraries by their column. */
const COLUMNS = {
  tfjs: "TensorFlow.js, WebGPU",
  "jax-js": "jax-js, WebGPU",
  "jax-js-wasm": "jax-js, wasm",
  pytorch: "PyTorch, processor",
};

/** Every file of results, the newest first. */
export function readResults(folder = join(root, "bench/results")): Results<unknown>[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => readOne(join(folder, name)))
    .sort((a, b) => b.date.localeCompare(a.date));
}

function readOne(path: string): Results<unknown> {
  const content = JSON.parse(readFileSync(path, "utf8"));
  const missing = ["bench", "adapter", "driver", "cpu", "date", "rows"].filter(
    (name) => content[name] === undefined,
  );
  if (missing.length === 0) return content;
  throw new Error(
    `performance: ${path} must name ${missing.join(", ")}, got none. Run the bench again.`,
  );
}

/** The section as Markdown: for each adapter its newest results. */
export function performanceSection(results: readonly Results<unknown>[]): string {
  const parts = [...new Set(results.map(({ adapter }) => adapter))].sort().flatMap((adapter) => {
    const newest = (bench: string) =>
      results.find((r) => r.adapter === adapter && r.bench === bench);
    const [peers, ops, models] = [newest("peers"), newest("ops"), newest("model")];
    const large = newest("gpu") ?? newest("cuda");
    return [
      ...(peers ? [heading(peers), peerTable(peers.rows as PeerRow[])] : []),
      ...(ops ? [shapesTable(ops.rows as Result[])] : []),
      ...(models ? [heading(models), modelTable(models.rows as ModelBench[]), baseBytesTable(models.rows as ModelBench[])] : []), // biome-ignore format: one line
      ...(large ? [heading(large), largeTable(large.rows as LargeRow[])] : []),
    ].filter(Boolean);
  });
  return parts.join("\n\n");
}

function heading({ adapter, driver, cpu, cores, date }: Conditions): string {
  return `**${adapter}** (${driver}; ${cpu}, ${cores} cores; ${date.slice(0, 10)})`;
}

/** Our time in each case, and how many times ours the others took in the same run. */
function peerTable(rows: readonly PeerRow[]): string {
  const ids = Object.keys(COLUMNS);
  const order = CASES.map(({ name }) => name);
  const cases = [...new Set(rows.map(({ name }) => name))].sort(
    (a, b) => order.indexOf(a) - order.indexOf(b),
  );
  const lines = cases.map((name) => {
    const same = rows
      .filter((row) => row.name === name)
      .sort((a, b) => b.date.localeCompare(a.date));
    const ours = timesIn(same[0]!, "lowrank")?.ms ?? null;
    const rate = ours === null ? "" : (same[0]!.flops / ours / 1e6).toFixed(1);
    return [name, milliseconds(ours), rate, ...ids.map((id) => ratio(same, id))];
  });
  return markdownTable(["case", "ms", "GFLOP/s", ...Object.values(COLUMNS)], lines);
}

const timesIn = (row: PeerRow, id: string): PeerTimes | undefined =>
  row.libraries.find((library) => library.id === id);

/** Of the newest run that had this library in it. */
function ratio(rows: readonly PeerRow[], id: string): string {
  const row = rows.find((r) => timesIn(r, id));
  if (!row) return "";
  const [ours, theirs] = [timesIn(row, "lowrank")?.ms, timesIn(row, id)!.ms];
  if (theirs === null) return "cannot";
  return ours ? `${(theirs / ours).toPrecision(2)} ×` : milliseconds(theirs);
}

function milliseconds(ms: number | null): string {
  if (ms === null) return "cannot";
  return ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0);
}

/** The layer alone in milliseconds; with a low-rank update as a multiple of it, fused and from plain ops. */
function shapesTable(rows: readonly Result[]): string {
  const shapes = rows.filter(({ op }) => op === "lora_shapes");
  const found = new Map(shapes.map((r) => [r.name, r] as const));
  const places = [...found.keys()].flatMap((name) => name.match(/^(.*), merged$/)?.[1] ?? []);
  if (places.length === 0) return "";
  const ranks = [4, 8, 16, 64];
  const lines = places.map((place) => {
    const alone = found.get(`${place}, merged`)!;
    const cells = ranks.map((r) => {
      const forms = ["fused", "unfused"].map((form) => found.get(`${place}, r ${r}, ${form}`));
      return forms.map((f) => timesOf(f?.beside)).join(" / ");
    });
    const share = alone.shareOfPeak === null ? "" : `${Math.round(100 * alone.shareOfPeak)} %`;
    return [place, milliseconds(alone.wallTimeMs), share, ...cells];
  });
  const head = [
    "layer, forward",
    "merged, ms",
    "of the roofline",
    ...ranks.map((r) => `r ${r}: fused / plain ops`),
  ];
  return markdownTable(head, lines);
}

const timesOf = (ratio?: Ratio | null): string =>
  ratio && ratio.spread <= MOST_SPREAD ? ratio.times.toFixed(2) : "?";

function largeTable(rows: readonly LargeRow[]): string {
  const cells = rows.map(({ name, ms, gflops }) => [
    name,
    milliseconds(ms),
    gflops?.toFixed(0) ?? "",
  ]);
  return markdownTable(["case", "ms", "GFLOP/s"], cells);
}

/** docs/lora.md with the newest table of bases in int8 and NF4 in its place. */
export function loraWithBases(
  text: string,
  results: readonly Results<unknown>[] = readResults(),
): string {
  const found = results.find(({ bench }) => bench === "qlora");
  if (!found) return text;
  const content = `${heading(found)}\n\n${qloraTable(found.rows as QLoraRow[])}`;
  const markers = /(<!-- qlora -->\n)[\s\S]*(<!-- \/qlora -->)/;
  return text.replace(markers, (_, begin, end) => `${begin}${content}\n${end}`);
}

/** README with the section in its place. */
export function readmeWithPerformance(
  readme: string,
  results: readonly Results<unknown>[] = readResults(),
): string {
  const markers = /(<!-- performance -->\n)[\s\S]*(<!-- \/performance -->)/;
  return readme.replace(
    markers,
    (_, begin, end) => `${begin}${performanceSection(results)}\n${end}`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = join(root, "README.md");
  await writeFileSafely(path, readmeWithPerformance(readFileSync(path, "utf8")));
  const lora = join(root, "docs/lora.md");
  await writeFileSafely(lora, loraWithBases(readFileSync(lora, "utf8")));
}
