// Tables of what models cost, for README and docs/lora.md, from the rows that bench/model.ts and bench/qlora.ts wrote.
import type { QLoraRow } from "../bench/qlora.ts";
import type { ModelBench } from "../src/train/bench/bench_model.ts";

export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

const GB = 1e9;
const MB = 1e6;
const digits = (v: number, n = 2) => `${Number(v.toPrecision(n))}`;
const grouped = (n: number) => n.toLocaleString("en-US");

function parametersText(n: number): string {
  return n >= 1e8 ? `${digits(n / 1e9)} billion` : `${digits(n / 1e6)} million`;
}

function heldText(dtype: string): string {
  return dtype === "auto" ? "as stored" : dtype;
}

/** Of a small file it would be what every load costs, whatever its size. */
function loadText(bytes: number, { secondsPerGB, touchSecondsPerGB }: ModelBench["load"]): string {
  if (bytes < GB / 10) return "";
  const alone = touchSecondsPerGB === null ? "" : ` (${digits(touchSecondsPerGB)})`;
  return digits(secondsPerGB) + alone;
}

/** Loading, training and generation of each model, the small one first. */
export function modelTable(rows: readonly ModelBench[]): string {
  const inOrder = [...rows].sort((a, b) => a.parameters - b.parameters || (a.dtype === "auto" ? -1 : 1)); // biome-ignore format: one line
  const lines = inOrder.map(
    ({ parameters, dtype, checkpointBytes, load, training, generation }) => {
      const speeds = generation && [generation.base, generation.base8, generation.adapter, generation.merged]; // biome-ignore format: one line
      return [
        parametersText(parameters),
        `${digits(checkpointBytes / GB)} GB, ${heldText(dtype)}`,
        loadText(checkpointBytes, load),
        `${digits(load.hostBytes / MB)} MB`,
        training ? digits(training.tokensPerSecond, 3) : "",
        ...(speeds ?? Array<undefined>(4).fill(undefined)).map((v) =>
          v === undefined ? "" : v === null ? "-" : digits(v, 3),
        ),
      ];
    },
  );
  const head = [
    "parameters",
    "checkpoint, held",
    "load, s per GB (fresh memory alone)",
    "host memory beside the buffers",
    "training, tokens/s",
    "generation, tokens/s",
    "eight prompts",
    "with an adapter",
    "merged",
  ];
  return markdownTable(head, lines);
}

/** Bytes of each base under each type, one line a model. */
export function baseBytesTable(rows: readonly ModelBench[]): string {
  const models = new Map(
    [...rows].filter(({ dtype }) => dtype === "auto").map((r) => [r.parameters, r]),
  );
  const lines = [...models.values()]
    .sort((a, b) => a.parameters - b.parameters)
    .map(({ parameters, baseBytes }) => {
      const cells = Object.values(baseBytes).map((n) => {
        if (n === null) return "-";
        return `${grouped(Math.round(n / 1e3))} kB, ${digits((8 * n) / parameters, 3)} bits`;
      });
      return [parametersText(parameters), ...cells];
    });
  return markdownTable(
    ["bytes of the base, and bits a parameter", "f32", "bf16", "int8", "nf4"],
    lines,
  );
}

/** The same LoRA run on each base. */
export function qloraTable(rows: readonly QLoraRow[]): string {
  const order = ["f32", "bf16", "int8", "nf4"];
  const inOrder = [...rows].sort((a, b) => order.indexOf(a.dtype) - order.indexOf(b.dtype));
  const head = ["base held as", "bytes of the base", "peak of the run", "loss before", "loss after", "step, ms", "step at width 768, ms"]; // biome-ignore format: one line
  const lines = inOrder.map((r) => [
    r.dtype,
    grouped(r.baseBytes),
    grouped(r.peakBytes),
    r.lossBefore.toFixed(4),
    r.lossAfter.toFixed(4),
    r.stepMs === null ? "" : digits(r.stepMs, 3),
    r.wideStepMs === null ? "" : digits(r.wideStepMs, 3),
  ]);
  return markdownTable(head, lines);
}
