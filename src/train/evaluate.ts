// evaluate: loss and accuracy on held-out rows, as one number or row by row.
import { noGrad } from "../autograd/graph.ts";
import { argmax, crossEntropy, reshape, slice } from "../autograd/ops/index.ts";
import { ShapeError, ValueError } from "../gpu/errors.ts";
import type { CausalLM, RowLayout } from "../nn/causal_lm.ts";
import { tensor } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkCount, IGNORED, type RowSet, stack } from "./rows.ts";

export interface EvaluateOptions {
  /** Rows at once. Default 8. */
  batch?: number;
  /** How many rows at most, spread evenly over the set. Default: all. */
  most?: number;
  /** Most bytes of logits that are there at once, to a place of the batch. Default 64 MiB. */
  logitBytes?: number;
  /** Called after each batch, with the rows that are done and those that will be. */
  onRows?: (done: number, rows: number) => void;
}

/** What a model makes of a row. */
export interface RowScore {
  /** Its number in the set. */
  row: number;
  /** Targets that count. */
  tokens: number;
  /** Cross-entropy of these in nats, summed. */
  loss: number;
  /** Targets that are the likeliest token. */
  right: number;
}

export interface Evaluation {
  /** Mean cross-entropy in nats over all targets that count. */
  loss: number;
  /** Share of these targets that are the likeliest token. */
  accuracy: number;
  /** How many count. */
  tokens: number;
}

/**
 * Mean loss over the targets of held-out rows, in evaluation mode: each target counts once, whatever row it is in.
 * @param rows  `Windows`, `PackedRows`, `PaddedRows` or any other set of rows
 * @throws ValueError where an option is no positive integer or no target counts; ShapeError for rows longer than
 *   the model's context
 */
export async function evaluate(
  model: CausalLM,
  rows: RowSet,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const sum = { loss: 0, tokens: 0, right: 0 };
  for await (const { loss, tokens, right } of scoreRows(model, rows, options)) {
    sum.loss += loss;
    sum.tokens += tokens;
    sum.right += right;
  }
  if (sum.tokens === 0) {
    throw new ValueError({ op: "evaluate", arg: "rows", expected: "with targets", got: "none" });
  }
  const { loss, tokens, right } = sum;
  return { loss: loss / tokens, accuracy: right / tokens, tokens };
}

/**
 * The same row by row, in the order of the set.
 * @throws as `evaluate`, but for rows without targets
 */
export async function* scoreRows(
  model: CausalLM,
  rows: RowSet,
  options: EvaluateOptions = {},
): AsyncGenerator<RowScore, void> {
  const { batch = 8, most = rows.count, logitBytes = 64 * 2 ** 20, onRows } = options;
  checkCount("evaluate", "batch", batch);
  checkCount("evaluate", "most", most);
  checkCount("evaluate", "logitBytes", logitBytes);
  checkLength("evaluate", "rows", rows, model);
  const n = Math.min(most, rows.count);
  for (let first = 0; first < n; first += batch) {
    const size = Math.min(batch, n - first);
    const at = (i: number) => Math.floor(((first + i) * rows.count) / n);
    const chosen = Array.from({ length: size }, (_, i) => at(i));
    const scores = await scoresOf(model, rows, chosen, logitBytes);
    onRows?.(first + size, n);
    yield* scores;
  }
}

/** Throws ShapeError for rows that are longer than the model's context. */
export function checkLength(
  op: string,
  arg: string,
  { length }: { length: number },
  { sizes: { maxLength } }: CausalLM,
): void {
  if (length <= maxLength) return;
  throw new ShapeError({
    op,
    arg,
    expected: `of at most ${maxLength} tokens, the model's context`,
    got: `${length}`,
  });
}

async function scoresOf(
  model: CausalLM,
  rows: RowSet,
  chosen: readonly number[],
  logitBytes: number,
): Promise<RowScore[]> {
  using _ = scope();
  const wasTraining = model.training;
  model.eval();
  const T = rows.length;
  const { ids, targets, starts } = stack(
    chosen.map((i) => rows.row(i)),
    T,
    rows.isPacked,
  );
  const shape = [chosen.length, T];
  const [x, y] = [tensor(ids, shape), tensor(targets, shape)];
  const layout = starts && { starts: tensor(starts, shape) };
  let parts: Part[];
  try {
    parts = noGrad(() => partsOf(model, x, y, layout, logitBytes));
  } finally {
    model.train(wasTraining);
  }
  const scores = chosen.map((row) => ({ row, tokens: 0, loss: 0, right: 0 }));
  for (const { from, to, losses, likeliest } of parts) {
    const [loss, guess] = await Promise.all([losses.data(), likeliest.data()]);
    for (const [b, score] of scores.entries()) {
      for (let t = from; t < to; t++) {
        const target = targets[b * T + t]!;
        if (target === IGNORED) continue;
        const at = b * (to - from) + t - from;
        score.tokens += 1;
        score.loss += loss[at]!;
        if (guess[at] === target) score.right += 1;
      }
    }
  }
  return scores;
}

/** Places from … to − 1 of all rows: loss and likeliest token of each, [B · (to − from)]. */
interface Part {
  from: number;
  to: number;
  losses: Tensor;
  likeliest: Tensor;
}

/** A few places of all rows at once, so that the logits of all are never there together. */
function partsOf(
  model: CausalLM,
  ids: Tensor,
  targets: Tensor,
  layout: RowLayout | undefined,
  logitBytes: number,
): Part[] {
  const hidden = model.hidden(ids, undefined, layout); // [B, T, D]
  const [B, T] = ids.shape as [number, number];
  const V = model.sizes.vocabSize;
  const width = Math.max(1, Math.floor(logitBytes / (4 * V * B)));
  const parts: Part[] = [];
  for (let from = 0; from < T; from += width) {
    const to = Math.min(T, from + width);
    using inner = scope();
    const n = B * (to - from);
    const logits = reshape(model.logits(slice(hidden, 1, from, to)), [n, V]);
    const wanted = reshape(slice(targets, 1, from, to), [n]);
    const losses = inner.keep(crossEntropy(logits, wanted, { reduction: "none" }));
    parts.push({ from, to, losses, likeliest: inner.keep(argmax(logits, 1)) });
  }
  return parts;
}
