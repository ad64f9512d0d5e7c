// Findings: what a run's numbers mean, in plain words.
import type { Facts } from "./facts.ts";
import { count, listed, loss, percent, signed } from "./format.ts";
import type { Point, Run, Step } from "./read_run.ts";

/** `bad`: something went wrong. `mind`: worth a look. `good`: as it should be. */
export interface Finding {
  kind: "bad" | "mind" | "good";
  title: string;
  text: string;
}

/** How much of a loss counts as a change. */
const NOTABLE = 0.01;

type Rule = (run: Run) => Finding | null;

/** All that is worth saying about a run, the worst first. */
export function findingsOf(run: Run): Finding[] {
  const damage = run.damage.map((text): Finding => ({ kind: "mind", title: "Damaged file", text }));
  const own = notesOf(run).map(
    (text): Finding => ({ kind: "mind", title: "Note", text: sentence(text) }),
  );
  const found = RULES.map((rule) => rule(run)).filter((finding) => finding !== null);
  const order = { bad: 0, mind: 1, good: 2 };
  return [...damage, ...own, ...found].sort((a, b) => order[a.kind] - order[b.kind]);
}

/** What the run itself noted, and what its adapter shows. */
function notesOf({ facts, learnt }: Run): string[] {
  const notes = facts.at("notes");
  const own = Array.isArray(notes) ? notes.map(String) : [];
  // The run has said it where lora_B stayed zero.
  const isSaid = (warning: string) =>
    /zero/.test(warning) && own.some((note) => /lora_B/.test(note));
  return [...own, ...(learnt?.warnings ?? []).filter((warning) => !isSaid(warning))];
}

/** With a full stop, and a capital where it begins with a word. */
function sentence(text: string): string {
  const whole = text.replace(/^[a-z]+(?=[ ,])/, (word) => word[0]!.toUpperCase() + word.slice(1));
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

const unfinished: Rule = ({ facts, steps }) => {
  if (facts.at("ended") !== undefined && facts.at("ended") !== null) return null;
  const last = steps.at(-1)?.step;
  const until =
    last === undefined ? "It has no step yet." : `Its last step here is ${count(last)}.`;
  return {
    kind: "mind",
    title: "Not ended",
    text: `The run is at work, or was killed. ${until} Where it was killed, resume goes on from its last checkpoint.`,
  };
};

const STOPPED: Readonly<Record<string, (facts: Facts) => Finding>> = {
  patience: (facts) => {
    const best = facts.number("valid.best.step");
    const kept =
      best === null ? "" : ` The weights kept are those of step ${count(best)}, the best.`;
    return {
      kind: "good",
      title: "Stopped early",
      text: `The validation loss had not fallen for as many looks as patience allows.${kept}`,
    };
  },
  limit: () => ({
    kind: "mind",
    title: "Stopped at a limit",
    text: "The limit of time or steps came before the planned end, so the learning rate had not come down to its end.",
  }),
  aborted: () => ({
    kind: "mind",
    title: "Interrupted",
    text: "Somebody stopped it. What was trained until then is saved; resume goes on from there.",
  }),
  nonFinite: () => ({
    kind: "bad",
    title: "Stopped at a number that is none",
    text: "A loss or gradient became NaN or infinite. Try a lower learning rate or a longer warm-up.",
  }),
};

const stopped: Rule = ({ facts }) => {
  const why = facts.text("stopped") ?? "";
  return Object.hasOwn(STOPPED, why) ? STOPPED[why]!(facts) : null;
};

const skipped: Rule = ({ steps }) => {
  const which = steps.filter((step) => step.skipped).map(({ step }) => step);
  if (which.length === 0) return null;
  const few = listed(which.length > 6 ? [...which.slice(0, 5), `${which.length - 5} more`] : which);
  const what = which.length === 1 ? "1 step" : `${which.length} steps`;
  return {
    kind: which.length > steps.length / 100 ? "bad" : "mind",
    title: "Skipped steps",
    text: `${what} moved nothing, for loss or gradients were not finite: ${few}. A lower learning rate or a longer warm-up helps.`,
  };
};

/** The look with the lowest loss. */
export function lowest(points: readonly Point[]): Point | null {
  return points.reduce<Point | null>((a, b) => (a && a.loss <= b.loss ? a : b), null);
}

/** The smoothed training loss at a step, or just before it. */
function trainingLossAt(steps: readonly Step[], step: number): number | null {
  return steps.filter((one) => one.step <= step && one.smoothed !== null).at(-1)?.smoothed ?? null;
}

const overfitting: Rule = ({ valid, steps, facts }) => {
  const [best, last] = [lowest(valid), valid.at(-1)];
  if (!best || !last || best.step === 0) return null;
  const after = valid.filter(({ step }) => step > best.step);
  const [from, to] = [trainingLossAt(steps, best.step), trainingLossAt(steps, last.step)];
  const rises = after.length >= 2 && last.loss > best.loss * (1 + NOTABLE);
  if (!rises || from === null || to === null || to >= from) return null;
  const share = signed(100 * (last.loss / best.loss - 1), 0);
  const isCaught = facts.text("stopped") === "patience";
  const advice = isCaught
    ? `early stopping brought back the weights of step ${count(best.step)}. More data would let it learn on; so may a smaller rank or more dropout.`
    : "Stop at the best look (patience), bring more data, or train less: a smaller rank, more dropout, fewer steps.";
  return {
    kind: isCaught ? "mind" : "bad",
    title: `Overfitting after step ${count(best.step)}`,
    text:
      `From there to step ${count(last.step)} the validation loss rose from ${loss(best.loss)} to ${loss(last.loss)} (${share} %), ` +
      `while the training loss fell from ${loss(from)} to ${loss(to)}: the model learns its examples by heart${isCaught ? "; " : ". "}${advice}`,
  };
};

const learntNothing: Rule = ({ valid }) => {
  const [first, best] = [valid[0], lowest(valid)];
  if (!first || !best || first.step !== 0 || valid.length < 2) return null;
  if (best.step !== 0) return null;
  return {
    kind: "bad",
    title: "Nothing was learnt",
    text: `No look at validation text found a loss below that before training, ${loss(first.loss)}. Is the learning rate right, and is the training text of the same kind?`,
  };
};

const stillFalling: Rule = ({ valid, facts }) => {
  const [best, last] = [lowest(valid), valid.at(-1)];
  const before = valid.filter(({ step }) => step <= 0.8 * (last?.step ?? 0)).at(-1);
  if (!best || !last || !before || valid.length < 4 || best !== last) return null;
  if (facts.text("stopped") === "patience" || last.loss > before.loss * (1 - NOTABLE)) return null;
  return {
    kind: "mind",
    title: "Still learning at the end",
    text: `In the last fifth of the steps the validation loss still fell from ${loss(before.loss)} to ${loss(last.loss)}. More steps, or a higher learning rate, would take it further.`,
  };
};

const forgetting: Rule = ({ general, facts }) => {
  const [first, last] = [general[0], general.at(-1)];
  if (!first || !last || first.step !== 0 || last.step === 0) return null;
  const after = facts.number("general.after") ?? last.loss; // of the weights that are kept
  const rise = after - first.loss;
  const share = rise / first.loss;
  const text = `On general text the loss went from ${loss(first.loss)} to ${loss(after)} (${signed(rise)} nats per token).`;
  const title = rise > 0 ? "Little was forgotten" : "Nothing was forgotten";
  if (share < 0.02) return { kind: "good", title, text };
  return {
    kind: share > 0.1 ? "bad" : "mind",
    title: `Forgetting: ${percent(share)} higher loss on general text`,
    text: `${text} Replay of general text in training, a lower learning rate or a smaller rank forget less.`,
  };
};

const clipping: Rule = ({ steps, facts }) => {
  const clip = facts.number("config.training.clip");
  const norms = steps.flatMap(({ gradNorm }) => (gradNorm === null ? [] : [gradNorm]));
  if (clip === null || norms.length < 20) return null;
  const share = norms.filter((norm) => norm > clip).length / norms.length;
  if (share < 0.8) return null;
  return {
    kind: "mind",
    title: "Most gradients were clipped",
    text: `${percent(share)} of the steps had a gradient norm above ${clip}, so their length was that of the clip alone. It does no harm as such; a higher clip lets the norm have its say.`,
  };
};

const diverging: Rule = ({ steps }) => {
  const smoothed = steps.flatMap((step) => (step.smoothed === null ? [] : [step.smoothed]));
  const [early, end] = [smoothed[Math.min(9, smoothed.length - 1)], smoothed.at(-1)];
  if (smoothed.length < 30 || end! < early! * (1 + 5 * NOTABLE)) return null;
  return {
    kind: "bad",
    title: "The training loss rose",
    text: `Smoothed, it went from ${loss(early!)} to ${loss(end!)}. The learning rate is most likely too high.`,
  };
};

const RULES: readonly Rule[] = [
  unfinished,
  diverging,
  overfitting,
  learntNothing,
  skipped,
  stillFalling,
  forgetting,
  stopped,
  clipping,
];
