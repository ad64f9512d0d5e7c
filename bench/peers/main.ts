// `npm run bench:peers -- [--json file] [--rounds n] [--libraries a,b] [filter]`: this library and others on the
// same adapter, one process each. Results are compared first; then the libraries take turns, the others idle.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fromHere } from "../../scripts/from_here.ts";
import { findAdapter } from "../../src/gpu/entry.node.ts";
import { conditions, quantile } from "../../src/train/bench/timed.ts";
import { writeResults } from "../results.ts";
import { CASES, inputValues, type PeerCase } from "./cases.ts";
import { PEERS, PeerProcess } from "./peer.ts";
import type { PeerRow, PeerTimes } from "./rows.ts";
import { difference, wrongProduct } from "./verify.ts";

const ROUND_MS = 150;
const MAX_RUNS = 10;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    rounds: { type: "string", default: "5" },
    libraries: { type: "string", default: PEERS.map(({ id }) => id).join(",") },
  },
});
const words = positionals.join(" ").toLowerCase().split(/\s+/).filter(Boolean);
const cases = CASES.filter(({ name }) => words.every((w) => name.toLowerCase().includes(w)));
const wanted = options.libraries.split(",");
const unknown = wanted.filter((id) => !PEERS.some((p) => p.id === id));
if (unknown.length > 0) {
  const known = PEERS.map(({ id }) => id).join(", ");
  console.error(`bench:peers: --libraries must be among ${known}, got ${unknown.join(", ")}.`);
  process.exit(1);
}
if (cases.length === 0) {
  console.error(`bench:peers: no case matches "${words.join(" ")}".`);
  process.exit(1);
}
if (!existsSync(join(import.meta.dirname, "node_modules"))) {
  console.error(
    "bench:peers: the other libraries are not installed. Run `npm install` in bench/peers.",
  );
  process.exit(1);
}

const { adapterClass, description } = await findAdapter(process.env.LOWRANK_ADAPTER || undefined);
// A GPU works beside the processor, so nothing is gained by leaving the processor alone.
process.env.PEERS_NAPS = adapterClass === "gpu" ? "0" : "1";
console.log(`${adapterClass}: ${description}`);
const folder = mkdtempSync(join(tmpdir(), "lowrank-peers-"));
const running = new Map<string, PeerProcess>();
const names = new Map<string, string>();
try {
  for (const work of cases) {
    const row = await measure(work);
    print(row);
    if (!options.json) continue;
    const results = { ...conditions("peers", adapterClass, description), rows: [row] };
    await writeResults(fromHere("bench:peers", options.json), results, keyOf);
  }
} finally {
  for (const process of running.values()) process.kill();
  rmSync(folder, { recursive: true });
}
process.exit();

/** The library's process, started anew where it is not there. */
async function processOf(id: string): Promise<PeerProcess> {
  const found = running.get(id);
  if (found) return found;
  const started = new PeerProcess(PEERS.find((p) => p.id === id)!);
  running.set(id, started);
  await started.open();
  names.set(id, started.name);
  return started;
}

async function measure(work: PeerCase): Promise<PeerRow> {
  const inputs = join(folder, "inputs");
  const values = inputValues(work);
  writeFileSync(inputs, Buffer.concat(values.map((v) => Buffer.from(v.buffer))));
  const why = new Map<string, string>();
  const rounds = new Map<string, number[]>(wanted.map((id) => [id, []]));
  let ours: Float32Array | null = null;
  /** Does something in a library; one that fails is reported, ended, and started anew for the next case. */
  const attempt = async (id: string, action: (p: PeerProcess) => Promise<void>) => {
    if (why.has(id)) return;
    try {
      await action(await processOf(id));
    } catch (error) {
      why.set(id, (error as Error).message.trim());
      running.get(id)?.kill();
      running.delete(id);
    }
  };
  for (const id of wanted) {
    await attempt(id, async (p) => {
      const results = join(folder, id);
      await p.ask({ do: "prepare", work, inputs, results });
      const bytes = readFileSync(results);
      const got = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
      const wrong =
        id === "lowrank"
          ? wrongProduct(work, values, got)
          : ours && difference(ours, got, work.tolerance);
      if (wrong) throw new Error(wrong);
      if (id === "lowrank") ours = got.slice();
    });
  }
  const runs = new Map<string, number>();
  for (const id of wanted) {
    await attempt(id, async (p) => {
      if (work.kind === "gpt") return; // a step is long enough alone
      const { ms } = await p.ask({ do: "time", runs: 1 });
      runs.set(id, Math.max(1, Math.min(MAX_RUNS, Math.round(ROUND_MS / ms!))));
    });
  }
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const id of wanted) {
      await attempt(id, async (p) => {
        const { ms } = await p.ask({ do: "time", runs: runs.get(id) ?? 1 });
        rounds.get(id)!.push(ms!);
      });
    }
  }
  for (const id of wanted) {
    await attempt(id, async (p) => {
      await p.ask({ do: "end" });
    });
  }
  const libraries = wanted.map((id): PeerTimes => {
    const failed = why.get(id) ?? null;
    const times = failed ? [] : rounds.get(id)!;
    const ms = failed ? null : quantile(times, 0.5);
    return { id, name: names.get(id) ?? id, ms, rounds: times, why: failed };
  });
  return { name: work.name, flops: work.flops, date: new Date().toISOString(), libraries };
}

/** Rows of the same libraries replace each other: a slow case may be run in parts. */
function keyOf({ name, libraries }: PeerRow): string {
  return [name, ...libraries.map(({ id }) => id)].join(" ");
}

function print({ name, flops, libraries }: PeerRow): void {
  console.log(`\n${name}`);
  const ours = libraries.find(({ id }) => id === "lowrank")?.ms ?? null;
  for (const { name: library, ms, rounds, why } of libraries) {
    if (ms === null) {
      console.log(`  ${library.padEnd(32)} cannot: ${why?.split("\n")[0]}`);
      continue;
    }
    const rate = `${(flops / ms / 1e6).toFixed(1)} GFLOP/s`;
    const range = `${Math.min(...rounds).toFixed(1)}–${Math.max(...rounds).toFixed(1)}`;
    const ratio = ours ? `${(ms / ours).toFixed(2)} × ours` : "";
    console.log(
      `  ${library.padEnd(32)}${ms.toFixed(2).padStart(10)} ms ${rate.padStart(16)} ${range.padStart(16)} ${ratio.padStart(14)}`,
    );
  }
}
