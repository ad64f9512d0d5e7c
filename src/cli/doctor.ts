// `lowrank doctor`: which device this machine gives, what it can do, what is missing and how to mend it.
import { howToGetFaster, lavapipeCommands } from "../gpu/advice.ts";
import { type Gpu, init } from "../gpu/device.ts";

/**
 * Prints the report, as lines or as one JSON object, or only the commands that install lavapipe.
 * @returns the exit code: 1 where there is no device.
 */
export async function doctor(what: "report" | "json" | "commands" = "report"): Promise<number> {
  if (what === "commands") {
    console.log(lavapipeCommands().join("\n"));
    return 0;
  }
  const print = what === "json" ? printJson : printLines;
  const rows = [row("machine", `${process.platform} ${process.arch}, Node ${process.version}`)];
  const asked = process.env.LOWRANK_ADAPTER;
  if (asked) rows.push(row("asked", `LOWRANK_ADAPTER=${asked}`));
  try {
    using gpu = await init();
    print([...rows, ...report(gpu)]);
    return 0;
  } catch (error) {
    print([...rows, row("device", "none")]);
    console.error((error as Error).message);
    return 1;
  }
}

/** What a line is about, and what it says. */
type Row = readonly [name: string, text: string];

function printLines(rows: readonly Row[]): void {
  for (const [name, text] of rows) {
    console.log(`${name.padEnd(11)} ${text.replaceAll("\n", `\n${" ".repeat(12)}`)}`);
  }
}

/** Rows of one name, such as `tried`, become one text. */
function printJson(rows: readonly Row[]): void {
  const facts: Record<string, string> = {};
  for (const [name, text] of rows) facts[name] = name in facts ? `${facts[name]}\n${text}` : text;
  console.log(JSON.stringify(facts, null, 2));
}

/** What the device is and can do, line by line. */
function report(gpu: Gpu): Row[] {
  const { limits, info } = gpu;
  const origins = {
    gpu: "a GPU of this machine",
    installed: "a software device installed on this system",
    embedded: "the software device out of npm, unpacked into the cache folder",
    browser: "the browser",
  };
  const f = (name: string, extra = ""): string =>
    `${gpu.features.has(name) ? `yes${extra}` : "no"}`;
  const subgroup = info.subgroupMinSize
    ? `, ${info.subgroupMinSize} to ${info.subgroupMaxSize} lanes`
    : "";
  return [
    row("device", gpu.description),
    row("class", gpu.adapterClass),
    row("origin", origins[gpu.origin]),
    ...gpu.tried.map((line) => row("tried", line)),
    row("f16", `${f("shader-f16")} (arithmetic; as storage f16 and bf16 work everywhere)`),
    row("subgroups", f("subgroups", subgroup)),
    row(
      "matrices",
      `${f("chromium-experimental-subgroup-matrix")} (subgroup matrices, tensor cores)`,
    ),
    row("timestamps", `${f("timestamp-query")} (profile)`),
    row("immediates", gpu.immediates ? "yes" : "no (parameters go through a uniform buffer)"),
    row(
      "buffer",
      `${size(limits.maxBufferSize)}, ${size(limits.maxStorageBufferBindingSize)} per binding`,
    ),
    row(
      "workgroup",
      `${limits.maxComputeInvocationsPerWorkgroup} invocations, ` +
        `${size(limits.maxComputeWorkgroupStorageSize)} of memory`,
    ),
    row("faster", howToGetFaster(gpu)),
  ];
}

const row = (name: string, text: string): Row => [name, text];

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  const step = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  return `${Number((bytes / 1024 ** step).toFixed(1))} ${units[step]}`;
}
