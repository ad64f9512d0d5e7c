// `npm run count`: lines of TypeScript and WGSL by room, without blank lines and what is generated.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
/** The core, which aims to be small enough to read. */
const CORE = ["gpu", "tensor", "kernels", "autograd", "nn", "lora"].map((room) => `src/${room}`);
const ROOMS = [...CORE, "src/train", "src/cli", "test", "bench", "examples", "scripts"];
const GENERATED = "src/kernels/sources.ts";

interface Count {
  files: number;
  ts: number;
  wgsl: number;
}

function countOf(room: string): Count {
  const count = { files: 0, ts: 0, wgsl: 0 };
  for (const name of readdirSync(join(root, room), { recursive: true, encoding: "utf8" })) {
    const kind = name.match(/\.(ts|wgsl)$/)?.[1] as "ts" | "wgsl" | undefined;
    const path = join(root, room, name);
    if (!kind || `${room}/${name}` === GENERATED || !statSync(path).isFile()) continue;
    count.files += 1;
    count[kind] += readFileSync(path, "utf8").match(/^.*\S.*$/gm)?.length ?? 0;
  }
  return count;
}

function line(name: string, { files, ts, wgsl }: Count): string {
  const cells = [files, ts, wgsl, ts + wgsl].map((n) => `${n}`.padStart(11));
  return name.padEnd(14) + cells.join("");
}

const sum = (counts: readonly Count[]): Count => ({
  files: counts.reduce((n, c) => n + c.files, 0),
  ts: counts.reduce((n, c) => n + c.ts, 0),
  wgsl: counts.reduce((n, c) => n + c.wgsl, 0),
});

const heads = ["files", "TypeScript", "WGSL", "together"].map((head) => head.padStart(11));
console.log("room".padEnd(14) + heads.join(""));
for (const room of ROOMS) console.log(line(room, countOf(room)));
console.log(line("core", sum(CORE.map(countOf))));
