// The study's tables: means of the seeds, and how far the seeds lie apart.
import { ARMS, ratesOf, tuningId } from "./experiments.ts";
import { CLOSING, type Group, METHODS, RANKS, type Results, seedsOf, TARGETS } from "./groups.ts";
import { chosenVariant, type Layers, VARIANTS, variantId } from "./near.ts";
import type { Change, Result } from "./result.ts";

export interface Study {
  results: Results;
  latency: Record<string, number> | null;
}

/** A table under each of the names that docs/study/README.md has marks for. */
export function tables({ results, latency }: Study): Record<string, string> {
  const group = (rows: Group) => changes(results, rows);
  const chosen = (layers: Layers) => VARIANTS[chosenVariant(results, layers).name]!.title;
  return {
    main: group([
      ["other prose, LoRA r 8", "main/near-lora"],
      ["other prose, full", "main/near-full"],
      ["code, LoRA r 8", "main/far-lora"],
      ["code, full", "main/far-full"],
    ]),
    nearer: group([
      ["LoRA r 8", "main/near-lora"],
      [chosen("all"), "near/all"],
      [chosen("mlp"), "near/mlp"],
      ["full", "main/near-full"],
    ]),
    tried: triedTable(results),
    longer: group([
      ["other prose, LoRA r 8", "long/near-lora"],
      [`other prose, ${chosen("mlp")}`, "near/long"],
      ["other prose, full", "long/near-full"],
      ["code, LoRA r 8", "close/long"],
    ]),
    early: group([
      ["LoRA r 8", "main/small-lora"],
      ["full", "main/small-full"],
    ]),
    replay: group([
      ["LoRA r 8", "main/far-lora"],
      ["LoRA r 8, 25 % replay", "replay/far-lora"],
      ["full", "main/far-full"],
      ["full, 25 % replay", "replay/far-full"],
    ]),
    rank: group(RANKS),
    targets: group(TARGETS),
    closing: group(CLOSING),
    methods: group(METHODS),
    small: smallTable(results),
    skill: skillTable(results),
    latency: latencyTable(latency),
  };
}

const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;

/** A mean, and half the range of the seeds. */
function spread(xs: readonly number[], digits = 3): string {
  const half = (Math.max(...xs) - Math.min(...xs)) / 2;
  return `${mean(xs).toFixed(digits)} ± ${half.toFixed(digits)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function changes(results: Results, named: Group): string {
  const rows = named.flatMap(([title, name]) => {
    const runs = seedsOf(results, name);
    if (runs.length === 0) return [];
    const share = `${(100 * runs[0]!.share).toFixed(1)} %`;
    const rose = ({ before, after }: Change) => after - before;
    return [
      [
        title,
        share,
        `${runs[0]!.lr}`,
        spread(runs.map(({ valid }) => valid.after)),
        spread(runs.map(({ valid }) => -rose(valid))),
        spread(runs.map(({ general }) => rose(general))),
      ],
    ];
  });
  const head = ["", "trained", "rate", "loss on the new text", "its fall", "forgotten"];
  return table(head, rows);
}

/** Variants on other prose by the loss on the text that is tuned on, beside both arms, each at its best rate there. */
function triedTable(results: Results): string {
  const arms = ARMS.map((arm) => ({
    title: arm === "lora" ? "LoRA r 8" : "full",
    ids: ratesOf("near", arm).map((lr) => tuningId("near", arm, lr)),
  }));
  const variants = Object.entries(VARIANTS).map(([name, { title, rates }]) => ({
    title,
    ids: rates.map((lr) => variantId({ name, lr })),
  }));
  const rows = [...arms, ...variants].flatMap(({ title, ids }) => {
    const runs = ids.flatMap((id) => results.get(id) ?? []);
    if (runs.length === 0) return [];
    return { title, runs, best: runs.reduce((a, b) => (b.valid.after < a.valid.after ? b : a)) };
  });
  const fall = ({ valid }: Result) => valid.before - valid.after;
  const full = rows.find(({ title }) => title === "full");
  rows.sort((a, b) => a.best.valid.after - b.best.valid.after);
  const cells = rows.map(({ title, runs, best }) => [
    title,
    `${(100 * best.share).toFixed(1)} %`,
    runs.map(({ lr }) => (lr === best.lr && runs.length > 1 ? `**${lr}**` : `${lr}`)).join(", "),
    best.valid.after.toFixed(3),
    full ? `${((100 * fall(best)) / fall(full.best)).toFixed(0)} %` : "",
    (best.general.after - best.general.before).toFixed(3),
  ]);
  return table(["", "trained", "rates", "loss", "of full's fall", "forgotten"], cells);
}

function smallTable(results: Results): string {
  const rows = [0, 0.1, 0.3].flatMap((dropout) => {
    const runs = seedsOf(results, `small/dropout-${dropout}`);
    if (runs.length === 0) return [];
    const lowest = runs.map(({ curve }) => curve.reduce((a, b) => (b.loss < a.loss ? b : a)));
    return [
      [
        `${dropout}`,
        spread(lowest.map(({ loss }) => loss)),
        lowest.map(({ step }) => step).join(", "),
        spread(runs.map(({ valid }) => valid.after)),
      ],
    ];
  });
  return table(["lora_dropout", "lowest loss", "at step", "loss at the end"], rows);
}

function skillTable(results: Results): string {
  const exact = seedsOf(results, "skill/lora").map((run) => run.exact!);
  if (exact.length === 0) return "";
  const percent = (shares: readonly number[]) =>
    `${spread(
      shares.map((s) => 100 * s),
      1,
    )} %`;
  const [before, after] = [exact.map((e) => e.before), exact.map((e) => e.after)];
  return table(
    ["", "right answers"],
    [
      ["base", percent(before)],
      ["LoRA r 8", percent(after)],
    ],
  );
}

function latencyTable(latency: Study["latency"]): string {
  if (!latency) return "";
  const rows = Object.entries(latency).map(([name, ms]) => [
    name,
    ms.toFixed(2),
    (ms / latency.base!).toFixed(2),
  ]);
  return table(["", "ms a token", "of the base"], rows);
}
