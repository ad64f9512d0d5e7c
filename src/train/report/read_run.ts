// A run's folder, as far as it is there: run.json and metrics.jsonl.
import { basename, resolve } from "node:path";
import { fileExists, readJson } from "../../tensor/files.ts";
import { type JsonLines, readJsonLines } from "../json_lines.ts";
import { Smoothed } from "../smoothed.ts";
import { Facts } from "./facts.ts";
import type { Learnt } from "./learnt.ts";

/** A step of training. What was not a finite number, or was not written, is null. */
export interface Step {
  step: number;
  loss: number | null;
  smoothed: number | null;
  lr: number | null;
  gradNorm: number | null;
  stepMs: number | null;
  tokensPerSecond: number | null;
  skipped: boolean;
}

export interface Point {
  step: number;
  loss: number;
}

/** What the GPU did in one op. */
export interface OpTime {
  op: string;
  calls: number | null;
  ms: number;
  /** The device's best time as a share of this. */
  roofline: number | null;
}

export interface Run {
  /** The folder's name, made unlike those of the other runs. */
  name: string;
  folder: string;
  /** run.json, or {} before it is written. */
  facts: Facts;
  steps: Step[];
  /** Losses on validation text, that before training as step 0. */
  valid: Point[];
  /** Losses on general text, that before training as step 0. */
  general: Point[];
  ops: OpTime[];
  /** What its adapter learnt; null where it has none, or where nobody looked. */
  learnt: Learnt | null;
  /** What is wrong with the files, in sentences. */
  damage: string[];
}

/** Whether a folder is a run's. */
export async function isRun(folder: string): Promise<boolean> {
  return (await fileExists(`${folder}/run.json`)) || (await fileExists(`${folder}/metrics.jsonl`));
}

/**
 * Reads a run.
 * @param folder  one with run.json, metrics.jsonl or both
 * @throws FormatError where one of them cannot be read, or run.json is no JSON object
 */
export async function readRun(folder: string): Promise<Run> {
  const [json, metrics] = ["run.json", "metrics.jsonl"].map((name) => `${folder}/${name}`);
  const facts = new Facts((await fileExists(json!)) ? await readJson(json!) : {});
  const none: JsonLines = { lines: [], damaged: [], torn: false };
  const read = (await fileExists(metrics!)) ? await readJsonLines(metrics!) : none;
  const { steps, valid, general, ops } = sorted(read.lines.map((line) => new Facts(line)));
  bracket(valid, facts, "valid", steps);
  bracket(general, facts, "general", steps);
  const name = basename(resolve(folder));
  return {
    name,
    folder,
    facts,
    steps,
    valid,
    general,
    ops,
    learnt: null,
    damage: damageOf("metrics.jsonl", read),
  };
}

/** What is wrong with the lines of a file, in sentences. */
export function damageOf(file: string, { damaged, torn }: JsonLines): string[] {
  const few = damaged.slice(0, 5).join(", ") + (damaged.length > 5 ? ", …" : "");
  const count = damaged.length === 1 ? "1 line is" : `${damaged.length} lines are`;
  return [
    ...(damaged.length > 0 ? [`${file}: ${count} no JSON object and left out (${few}).`] : []),
    ...(torn ? [`${file}: the last line is torn; its writer was killed, or is at work.`] : []),
  ];
}

/** Lines by kind. A run that went on from a checkpoint wrote some steps twice: what came later counts. */
function sorted(lines: readonly Facts[]) {
  let steps: Step[] = [];
  let valid: Point[] = [];
  let general: Point[] = [];
  let ops = new Map<string, OpTime>();
  for (const line of lines) {
    const kind = line.text("kind");
    const step = line.number("step");
    if (kind === "profile") {
      const op = opOf(line);
      if (op) ops.set(op.op, op);
    } else if (step === null) {
    } else if (kind === "step") {
      if (steps.length > 0 && step <= steps.at(-1)!.step) {
        steps = steps.filter((one) => one.step < step);
        [valid, general] = [valid, general].map((of) => of.filter((one) => one.step < step)) as [
          Point[],
          Point[],
        ];
      }
      steps.push(stepOf(step, line));
    } else if (kind === "valid" || kind === "general") {
      const list = kind === "valid" ? valid : general;
      const loss = line.number("loss");
      if (list.at(-1)?.step === step) list.pop();
      if (loss !== null) list.push({ step, loss });
    }
  }
  ops = new Map([...ops].sort(([, a], [, b]) => b.ms - a.ms));
  smoothWhereAbsent(steps);
  return { steps, valid, general, ops: [...ops.values()] };
}

function stepOf(step: number, line: Facts): Step {
  return {
    step,
    loss: line.number("loss"),
    smoothed: line.number("smoothed_loss"),
    lr: line.number("lr"),
    gradNorm: line.number("grad_norm"),
    stepMs: line.number("step_ms"),
    tokensPerSecond: line.number("tokens_per_second"),
    skipped: line.at("skipped") === true,
  };
}

function opOf(line: Facts): OpTime | null {
  const [op, ms] = [line.text("op"), line.number("gpu_ms")];
  if (op === null || ms === null) return null;
  return { op, ms, calls: line.number("calls"), roofline: line.number("roofline") };
}

function smoothWhereAbsent(steps: readonly Step[]): void {
  if (steps.some(({ smoothed }) => smoothed !== null)) return;
  const mean = new Smoothed(0.95);
  for (const step of steps) {
    const value = mean.add(step.loss ?? Number.NaN);
    step.smoothed = Number.isFinite(value) ? value : null;
  }
}

/** Adds what run.json knows of the loss before and after training. */
function bracket(
  points: Point[],
  facts: Facts,
  of: "valid" | "general",
  steps: readonly Step[],
): void {
  const before = facts.number(`${of}.before`);
  const after = facts.number(`${of}.after`);
  if (before !== null && points[0]?.step !== 0) points.unshift({ step: 0, loss: before });
  // With patience the best weights came back, so the loss after is not that of the last step.
  const last = facts.number("valid.best.step") ?? steps.at(-1)?.step;
  const isKnown = points.some(({ step }) => step === last);
  if (after !== null && last !== undefined && !isKnown && last >= (points.at(-1)?.step ?? 0)) {
    points.push({ step: last, loss: after });
  }
}
