// profile(): what each op of a function does on the GPU, how long it takes, and how long it must take.
import { gpu } from "../gpu/device.ts";
import type { TimedPass } from "../gpu/profiler.ts";
import { chromeTrace } from "../gpu/trace.ts";
import { writeFileSafely } from "../tensor/files.ts";
import { measureRoofline, type Roofline } from "./roofline.ts";

/** All dispatches of one label. Rates and shares are null where the device has no timestamps. */
export interface OpProfile {
  label: string;
  calls: number;
  gpuTimeMs: number | null;
  /** As the kernels count them: see `Launch.flops` and `Launch.bytes`. */
  flops: number;
  bytes: number;
  gflops: number | null;
  gbytesPerSecond: number | null;
  /** The time that the device would need at best, as a share of the time that it took. */
  shareOfRoofline: number | null;
  /** Which roof is the lower one here. */
  bound: "arithmetic" | "memory";
}

export interface Profile {
  device: string;
  roofline: Roofline;
  /** Longest first; where there are no times, by the time that the device would need at best. */
  ops: OpProfile[];
  /** Sum over all ops, or null where the device has no timestamps. */
  gpuTimeMs: number | null;
  /** From the call of the function until the GPU was done. A pass for each dispatch makes it longer than usual. */
  wallTimeMs: number;
}

/**
 * Runs a function with every dispatch in a timestamped pass of its own. What it should compile or allocate
 * but once it should have done before: profile the second call. `formatProfile` prints the result.
 * @param fn  may be asynchronous; what it returns is dropped
 * @param options  `trace`: a file to write for ui.perfetto.dev or chrome://tracing
 * @throws DeviceError inside of another profile
 */
export async function profile(
  fn: () => unknown,
  options: { trace?: string } = {},
): Promise<Profile> {
  const device = gpu("profile");
  const roofline = await measureRoofline(device);
  const { passes, wallTimeMs } = await device.timeline(fn);
  const name = `${device.adapterClass}: ${device.description}`;
  if (options.trace) await writeFileSafely(options.trace, chromeTrace(passes, name));
  const times = passes.map((pass) => pass.gpuTimeMs);
  const gpuTimeMs = device.hasTimestamps ? times.reduce<number>((a, b) => a + b!, 0) : null;
  return { device: name, roofline, ops: summarise(passes, roofline), gpuTimeMs, wallTimeMs };
}

/** Passes by label. */
export function summarise(passes: readonly TimedPass[], roofline: Roofline): OpProfile[] {
  const byLabel = new Map<string, TimedPass[]>();
  for (const pass of passes) {
    const list = byLabel.get(pass.label);
    if (list) list.push(pass);
    else byLabel.set(pass.label, [pass]);
  }
  const order = (op: OpProfile) => op.gpuTimeMs ?? leastMs(op, roofline).ms;
  return [...byLabel.values()]
    .map((list) => opOf(list, roofline))
    .sort((a, b) => order(b) - order(a));
}

function opOf(passes: readonly TimedPass[], roofline: Roofline): OpProfile {
  const sum = (of: (pass: TimedPass) => number) => passes.reduce((total, p) => total + of(p), 0);
  const timed = passes.every((p) => p.gpuTimeMs !== null);
  const gpuTimeMs = timed ? sum((p) => p.gpuTimeMs!) : null;
  const work = { flops: sum((p) => p.flops), bytes: sum((p) => p.bytes) };
  const { ms, bound } = leastMs(work, roofline);
  const per = (amount: number) => (gpuTimeMs ? amount / gpuTimeMs : null);
  return {
    label: passes[0]!.label,
    calls: passes.length,
    gpuTimeMs,
    ...work,
    gflops: per(work.flops / 1e6),
    gbytesPerSecond: per(work.bytes / 1e6),
    shareOfRoofline: per(ms),
    bound,
  };
}

/** What the device needs at best, and for what. */
function leastMs(
  { flops, bytes }: { flops: number; bytes: number },
  { gflops, gbytesPerSecond }: Roofline,
): { ms: number; bound: OpProfile["bound"] } {
  const [arithmetic, memory] = [flops / gflops / 1e6, bytes / gbytesPerSecond / 1e6];
  return { ms: Math.max(arithmetic, memory), bound: arithmetic > memory ? "arithmetic" : "memory" };
}

const HEAD = ["calls", "GPU ms", "of time", "GFLOP", "MB", "GFLOP/s", "GB/s", "of roofline"];
const NO_TIMESTAMPS =
  "This device has no timestamps, so times of ops are missing; the wall time is of all of them.";

/** A profile as a table. `of roofline` ends in A where arithmetic is the roof, in M where memory is. */
export function formatProfile({ device, roofline, ops, gpuTimeMs, wallTimeMs }: Profile): string {
  const width = Math.max(24, ...ops.map((op) => op.label.length + 2));
  const row = (name: string, cells: readonly string[]) =>
    name.padEnd(width) + cells.map((cell) => cell.padStart(12)).join("");
  const number = (value: number | null, digits: number) => value?.toFixed(digits) ?? "-";
  const percent = (value: number | null) => (value === null ? "-" : `${Math.round(100 * value)}%`);
  const lines = ops.map((op) =>
    row(op.label, [
      `${op.calls}`,
      number(op.gpuTimeMs, 3),
      percent(gpuTimeMs && op.gpuTimeMs !== null ? op.gpuTimeMs / gpuTimeMs : null),
      number(op.flops / 1e9, 3),
      number(op.bytes / 1e6, 2),
      number(op.gflops, 1),
      number(op.gbytesPerSecond, 2),
      `${percent(op.shareOfRoofline)} ${op.bound === "memory" ? "M" : "A"}`,
    ]),
  );
  const { gflops, gbytesPerSecond } = roofline;
  const all = ops.reduce((sum, op) => sum + op.calls, 0);
  return [
    `${device}; at best ${gflops.toFixed(1)} GFLOP/s, ${gbytesPerSecond.toFixed(1)} GB/s`,
    ...(gpuTimeMs === null ? [NO_TIMESTAMPS] : []),
    row("op", HEAD),
    ...lines,
    row("all", [`${all}`, number(gpuTimeMs, 3)]),
    `${wallTimeMs.toFixed(1)} ms from the call to the end, with a pass for each dispatch`,
  ].join("\n");
}
