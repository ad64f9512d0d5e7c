// What `lowrank train` prints of several methods: their figures side by side.
import type { Arm, Comparison } from "../train/recipe/index.ts";
import { bytesText, countText, figureText, table } from "./text.ts";
import { commandsText, quoted } from "./train_text.ts";

/** A figure of each method; null where it has none. */
type Row = readonly [name: string, of: (arm: Arm) => string | null | undefined];

/** Methods for people, and the commands that go on with them. */
export function comparisonText({ folder, arms }: Comparison): string {
  const rows = ROWS.map(([name, of]) => [name, ...arms.map((arm) => of(arm) ?? "–")]);
  const shown = rows.filter(([, ...cells]) => cells.some((cell) => cell !== "–"));
  const head = ["", ...arms.map(({ method }) => method)];
  const next = [
    [`lowrank report ${quoted(folder)}`, "all of them as a page"],
    [`lowrank inspect ${quoted(arms[0]!.folder)}`, "one of them, a run like any other"],
  ] as const;
  return `${[table(head, shown), ...notesOf(arms)].join("\n")}\n\nWritten: ${folder}/comparison.json\n\nNext:\n${commandsText(next)}`;
}

/** What one should know, and of which methods where it is not so of all. */
function notesOf(arms: readonly Arm[]): string[] {
  return [...new Set(arms.flatMap(({ notes }) => notes))].map((note) => {
    const of = arms.filter(({ notes }) => notes.includes(note));
    const names = of.length < arms.length ? `${of.map(({ method }) => method).join(", ")}: ` : "";
    return `note: ${names}${note}`;
  });
}

const nats = (loss: number | null | undefined) => (loss == null ? null : figureText(loss));
const bytes = (n: number | null | undefined) => (n ? bytesText(n) : null);

const MEMORY = ["base", "adapters", "gradients", "optimiser", "activations", "workspace"] as const;

const ROWS: readonly Row[] = [
  ["learning rate", ({ lr }) => figureText(lr)],
  ["steps", ({ steps, stopped }) => `${steps}${stopped === "steps" ? "" : ` (${stopped})`}`],
  ["trained parameters", ({ parameters }) => countText(parameters.trainable)],
  ["  of all", ({ parameters }) => `${figureText(100 * parameters.share, 3)} %`],
  ["validation loss before", ({ valid }) => nats(valid?.before)],
  ["validation loss after", ({ valid }) => nats(valid?.after)],
  ["general loss before", ({ general }) => nats(general?.before)],
  ["general loss after", ({ general }) => nats(general?.after)],
  ["forgetting", ({ general }) => nats(general?.forgetting)],
  ["GPU memory at most", ({ memory }) => bytes(memory?.peak_bytes.total)],
  ...MEMORY.map((name): Row => [`  ${name}`, ({ memory }) => bytes(memory?.peak_bytes[name])]),
  ["step, ms", ({ step_ms }) => nats(step_ms)],
  ["on disk", ({ bytes: saved }) => bytes(saved)],
];
