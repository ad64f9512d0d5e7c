// Low-rank linear: two products forward, of few rows one, four backward, dropout inside them. x: [..., in], W: [out, in] (or [in, out] where transposed),
// A: [r, in], B: [out, r], S: [rows, r]. Layers on one x share the pass over it where their A are alike and lie side by side.
import { DTypeError, ShapeError } from "../gpu/errors.ts";
import type { Key } from "../tensor/philox.ts";
import { isQuantized } from "../tensor/quantized.ts";
import { format } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { rowsBetween, rowsOf } from "./axes.ts";
import { checkDType, checkRank, checkShapeIs } from "./check.ts";
import { ownKernel } from "./kernel.ts";
import { type Drop, type MatmulOptions, matmulForward } from "./matmul.ts";
import { kernelPath } from "./path.ts";

/** How a call is meant: the scale of the update, how W is stored, what is dropped. */
export interface LoraPlan {
  scale: number;
  transposed: boolean;
  p: number;
  key: Key;
}

/** Where a product is added or written, if it is not to be a new tensor. */
type Into = Pick<MatmulOptions, "into" | "out">;

const op = "lora_linear";
const kernel = ownKernel(op);
const DTYPES: readonly string[] = ["f32", "f16", "bf16", "int8", "nf4"];

/** Throws unless all shapes and types fit. */
export function checkLoraLinear(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  A: Tensor,
  B: Tensor,
  transposed: boolean,
): void {
  checkDType(op, "x", x, "f32");
  checkDType(op, "a", A, "f32");
  checkDType(op, "b", B, "f32");
  W.checkAlive(op, "weight");
  if (W.dtype === "i32" || W.dtype === "u32") {
    throw new DTypeError({
      op,
      arg: "weight",
      expected: "f32, f16, bf16, int8 or nf4",
      got: W.dtype,
    });
  }
  checkRank(op, "x", x, 1, "[..., in]", true);
  checkRank(op, "weight", W, 2, transposed ? "[in, out]" : "[out, in]");
  const [out, inner] = (transposed ? [...W.shape].reverse() : W.shape) as [number, number];
  if (x.shape[x.rank - 1] !== inner) {
    const expected = `[..., in = ${inner}], for weight is ${format(W.shape)}`;
    throw new ShapeError({ op, arg: "x", expected, got: format(x.shape) });
  }
  checkRank(op, "a", A, 2, "[r, in]");
  const r = A.shape[0]!;
  if (r === 0) {
    throw new ShapeError({ op, arg: "a", expected: "[r, in], r > 0", got: format(A.shape) });
  }
  checkShapeIs(op, "a", A, [r, inner], "[r, in]");
  checkShapeIs(op, "b", B, [out, r], "[out, r]");
  if (bias) checkShapeIs(op, "bias", bias, [out], "[out]");
}

/** Where a binding may begin, in elements. */
const BINDING_STEP = 64;

/** Tensors of one shape as one, [count, ...shape], where they lie side by side in memory; else null. */
function joined(list: readonly Tensor[]): Tensor | null {
  const [first] = list as [Tensor];
  const { block, byteOffset } = first.storage;
  const follows = ({ storage: s }: Tensor, i: number) =>
    s.block === block && s.byteOffset === byteOffset + i * first.bytes;
  if (list.length < 2 || !list.every(follows)) return null;
  const storage = first.storage.slice(0, list.length * first.bytes);
  return new Tensor(storage, [list.length, ...first.shape], first.dtype);
}

/** Whether one product can serve all: equal ranks, scales and probabilities. Keys that follow each other are given. */
function areAlike(As: readonly Tensor[], plans: readonly LoraPlan[]): boolean {
  const [A, plan] = [As[0]!, plans[0]!];
  return (
    kernelPath() !== "plain" &&
    As.every(({ shape }) => shape[0] === A.shape[0]) &&
    plans.every(({ scale, p }) => scale === plan.scale && p === plan.p)
  );
}

/** `count` tensors [n, r] side by side, each where a binding may begin; null where that cannot be. */
function sideBySide(count: number, n: number, r: number): Tensor[] | null {
  if (count < 2 || (n * r) % BINDING_STEP !== 0) return null;
  return partsOf(Tensor.empty(op, [count, n, r], "f32"));
}

function partsOf(all: Tensor): Tensor[] {
  const [count, n, r] = all.shape as [number, number, number];
  return Array.from({ length: count }, (_, i) => rowsBetween(all, i, i + 1).view([n, r]));
}

function dropOf({ p, key }: LoraPlan): { drop?: Drop } {
  return p > 0 ? { drop: { p, key } } : {};
}

/**
 * S = s·D(x)·Aᵀ [n, r] of each layer, which backward needs: in one pass over x where that can be.
 * Products with r columns are computed transposed, with r rows: see `NARROW` in matmul.ts.
 */
export function loraLinearForwardS(
  x: Tensor,
  As: readonly Tensor[],
  plans: readonly LoraPlan[],
): Tensor[] {
  const rows = rowsOf(x); // [n, in]
  const product = (A: Tensor, plan: LoraPlan) =>
    matmulForward(A, rows, {
      ...{ transposeB: true, transposeY: true, alpha: plan.scale, eachAsAlone: true },
      label: "lora_linear_forward_s",
      ...dropOf(plan),
    }); // [..., n, r]
  const isWhole = (rows.shape[0]! * As[0]!.shape[0]!) % BINDING_STEP === 0;
  const all = isWhole && areAlike(As, plans) ? joined(As) : null;
  return all ? partsOf(product(all, plans[0]!)) : As.map((A, i) => product(A, plans[i]!));
}

/** y = x·Wᵀ + bias + S·Bᵀ, one product that is in + r deep. */
export function loraLinearForward(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  S: Tensor,
  B: Tensor,
  { transposed }: LoraPlan,
  into: Into = {},
): Tensor {
  const y = matmulForward(rowsOf(x), W, {
    transposeB: !transposed,
    ...(bias ? { bias } : {}),
    tail: { p: S, q: B, transposeQ: true },
    ...into,
    label: "lora_linear_forward",
  }); // [n, out]
  return y.view([...x.shape.slice(0, -1), B.shape[0]!]);
}

/** Rows up to which a layer without gradients is one dispatch, and the longest and widest that it takes. */
const FEW = { rows: 4, r: 64, in: 100_000 };

/** Whether `loraLinearFew` takes these arguments, which were checked. */
export function isFew(x: Tensor, W: Tensor, A: Tensor, { transposed, p }: LoraPlan): boolean {
  const [r, inner] = A.shape as [number, number];
  const isRead = !(transposed && isQuantized(W.dtype)) && W.storage.byteOffset % 16 === 0;
  const fits = r <= FEW.r && inner <= FEW.in && inner % 4 === 0 && x.size > 0 && W.size > 0;
  return p === 0 && kernelPath() !== "plain" && x.size <= FEW.rows * inner && fits && isRead;
}

/** The layer's result for few rows, in one dispatch: nothing is kept for backward. */
export function loraLinearFew(
  x: Tensor,
  W: Tensor,
  bias: Tensor | null,
  A: Tensor,
  B: Tensor,
  { transposed, scale }: LoraPlan,
): Tensor {
  const [N, R] = B.shape as [number, number];
  const [K, M] = [A.shape[1]!, x.size / A.shape[1]!];
  const y = Tensor.empty(op, [...x.shape.slice(0, -1), N], "f32");
  kernel.run("lora_linear_few", {
    tensors: { x, w: W, w_pairs: W, a: A, b: B, bias: bias ?? x, y },
    params: { N, K, R, has_bias: Number(Boolean(bias)), scale },
    constants: { TRANSPOSED: Number(transposed), DTYPE_W: DTYPES.indexOf(W.dtype) },
    groups: [Math.ceil(N / 64), M],
    flops: 2 * M * (N * (K + R) + K * R),
  });
  return y;
}

/** dS = s·dy·B [n, r] of each layer, which dx and dA share: side by side where that can be. */
export function loraLinearBackwardS(
  dys: readonly Tensor[],
  Bs: readonly Tensor[],
  plans: readonly LoraPlan[],
): Tensor[] {
  const [n, r] = [rowsOf(dys[0]!).shape[0]!, Bs[0]!.shape[1]!];
  const areEqual = Bs.every(({ shape }) => shape[1] === r);
  const places = areEqual ? sideBySide(dys.length, n, r) : null;
  return dys.map((dy, i) =>
    matmulForward(Bs[i]!, rowsOf(dy), {
      ...{ transposeA: true, transposeB: true, transposeY: true, alpha: plans[i]!.scale },
      ...(places ? { out: places[i]! } : {}),
      label: "lora_linear_backward_s",
    }),
  );
}

/** dx = D'(dS·A) + dy·W: the dropped part first, then the base on top of it. */
export function loraLinearBackwardX(
  dy: Tensor,
  dS: Tensor,
  W: Tensor,
  A: Tensor,
  plan: LoraPlan,
  into: Into,
): Tensor {
  return matmulForward(rowsOf(dy), W, {
    transposeB: plan.transposed,
    tail: { p: dS, q: A },
    ...dropOf(plan),
    ...into,
    label: "lora_linear_backward_x",
  });
}

/**
 * dA = dSᵀ·D(x) of each layer: in one pass over x where they are to be added to what lies side by side.
 * @param totals  what the gradients are added to, where there is something
 */
export function loraLinearBackwardA(
  dSs: readonly Tensor[],
  x: Tensor,
  plans: readonly LoraPlan[],
  totals: readonly (Tensor | null)[],
): Tensor[] {
  const product = (dS: Tensor, plan: LoraPlan, into: Tensor | null) =>
    matmulForward(dS, rowsOf(x), {
      transposeA: true,
      eachAsAlone: true,
      ...dropOf(plan),
      ...(into ? { into } : {}),
      label: "lora_linear_backward_a",
    }); // [..., r, in]
  const present = totals.filter((t) => t !== null);
  const isShared = present.length === dSs.length && areAlike(present, plans);
  const [dS, into] = isShared ? [joined(dSs), joined(present)] : [null, null];
  if (!dS || !into) return dSs.map((own, i) => product(own, plans[i]!, totals[i]!));
  product(dS, plans[0]!, into);
  for (const t of present) t.storage.touch();
  return present;
}

/** dB = dyᵀ·S. */
export function loraLinearBackwardB(dy: Tensor, S: Tensor, into: Into): Tensor {
  return matmulForward(S, rowsOf(dy), {
    ...{ transposeA: true, transposeY: true, label: "lora_linear_backward_b" },
    ...into,
  });
}

/** dW of a base that is not frozen: dyᵀ·x, or xᵀ·dy where W is stored transposed. */
export function loraLinearBackwardWeight(
  dy: Tensor,
  x: Tensor,
  transposed: boolean,
  into: Into,
): Tensor {
  const [left, right] = transposed ? [x, dy] : [dy, x];
  return matmulForward(rowsOf(left), rowsOf(right), { transposeA: true, ...into });
}
