// Cross-entropy: checks, outputs, dispatches. logits: [N, V], targets: [N]
import { ShapeError } from "../gpu/errors.ts";
import { checkIds } from "../tensor/id_range.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank, checkShapeIs, checkWord } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { foldForward } from "./reduce.ts";

const kernel = ownKernel("cross_entropy");

/** How the losses of the rows become the result. */
export type LossReduction = "mean" | "sum" | "none";
const REDUCTIONS: Record<LossReduction, number> = { mean: 0, sum: 1, none: 2 };

/** Columns that a run of forward and a workgroup of backward take: loops must stay below 65,535 turns. */
const SPAN = 1024;

/** What backward needs of forward. */
export interface CrossEntropyRows {
  y: Tensor;
  lse: Tensor;
  count: Tensor;
}

export function crossEntropyForward(
  logits: Tensor,
  targets: Tensor,
  ignoreIndex: number,
  reduction: LossReduction,
): CrossEntropyRows {
  const op = "cross_entropy";
  checkDType(op, "logits", logits, "f32");
  checkDType(op, "targets", targets, "i32", "u32");
  checkRank(op, "logits", logits, 2, "[N, V]");
  const [N, V] = logits.shape as [number, number];
  checkShapeIs(op, "targets", targets, [N], "[N]");
  if (V === 0) {
    const expected = "[N, V] with V at least 1";
    throw new ShapeError({ op, arg: "logits", expected, got: format(logits.shape) });
  }
  checkIds(op, "targets", targets, V, ignoreIndex);
  checkWord(op, "reduction", reduction, Object.keys(REDUCTIONS));
  const [losses, counts, lses] = [0, 1, 2].map(() =>
    Tensor.empty("cross_entropy_rows", [N], "f32"),
  );
  const spans = Math.ceil(V / SPAN);
  const params = { n: N, V, ignore: ignoreIndex, spans };
  const [maxima, sums] = [0, 1].map(() => Tensor.empty("cross_entropy_runs", [N, spans], "f32"));
  kernel.run("cross_entropy_runs", {
    tensors: { logits, maxima: maxima!, sums: sums! },
    params,
    groups: grid(Math.ceil((N * spans) / 16)),
  });
  kernel.run("cross_entropy_rows", {
    tensors: {
      logits,
      targets,
      maxima_in: maxima!,
      sums_in: sums!,
      losses: losses!,
      counts: counts!,
      lses: lses!,
    },
    params,
    groups: grid(Math.ceil(N / 16)),
  });
  maxima!.dispose();
  sums!.dispose();
  const fold = { outer: 1, R: N, inner: 1 };
  const count = foldForward(op, "sum", counts!, fold, []);
  if (reduction === "none") return { y: losses!, lse: lses!, count };
  const total = foldForward(op, "sum", losses!, fold, []);
  if (reduction === "sum") return { y: total, lse: lses!, count };
  return { y: meanOf(total, count), lse: lses!, count };
}

/** total/count, and 0 where nothing counts. */
export function meanOf(total: Tensor, count: Tensor): Tensor {
  const y = Tensor.empty("cross_entropy_mean", [], "f32");
  kernel.run("cross_entropy_mean", {
    tensors: { total, count, y },
    groups: [1],
    params: { n: 0, V: 0, ignore: 0, spans: 0 },
  });
  return y;
}

export function crossEntropyBackward(
  dy: Tensor,
  logits: Tensor,
  targets: Tensor,
  { lse, count }: Omit<CrossEntropyRows, "y">,
  ignoreIndex: number,
  reduction: LossReduction,
): Tensor {
  const [N, V] = logits.shape as [number, number];
  const spans = Math.ceil(V / SPAN);
  const dlogits = Tensor.empty("cross_entropy_backward", logits.shape, "f32");
  kernel.run("cross_entropy_backward", {
    tensors: { logits, targets, lse, count, dy, dlogits },
    params: { n: N, V, ignore: ignoreIndex, spans },
    constants: { REDUCTION: REDUCTIONS[reduction], SPAN },
    groups: grid(N * spans),
  });
  return dlogits;
}
