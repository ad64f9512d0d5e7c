// Two operands with broadcasting: checks, outputs, dispatches.
import { broadcastStrides, coalesce, type Shape, sameShape, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkShapeIs } from "./check.ts";
import { broadcastCopy } from "./copy.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";
import { bitsOf, checkOperands, type Operand, type Operands, shapeOf } from "./operand.ts";
import type { ParamValues } from "./params.ts";

const kernel = ownKernel("binary");

const ARITHMETIC = { add: 0, sub: 1, mul: 2, div: 3, maximum: 4, minimum: 5 } as const;
const COMPARISONS = { eq: 0, ne: 1, lt: 2, le: 3, gt: 4, ge: 5 } as const;

export type BinaryName = keyof typeof ARITHMETIC;
export type ComparisonName = keyof typeof COMPARISONS;

/** a ∘ b in the common shape. f32; i32 and u32 too, but for div. */
export function binaryForward(name: BinaryName, a: Operand, b: Operand): Tensor {
  const both =
    name === "div"
      ? checkOperands(name, a, b, "f32")
      : checkOperands(name, a, b, "f32", "i32", "u32");
  const y = Tensor.empty(name, both.shape, both.dtype);
  run("binary_forward", ARITHMETIC[name], a, b, both, { y });
  return y;
}

/** 1 where the comparison holds, 0 elsewhere, as u32. */
export function binaryCompare(name: ComparisonName, a: Operand, b: Operand): Tensor {
  const both = checkOperands(name, a, b, "f32", "i32", "u32");
  const mask = Tensor.empty(name, both.shape, "u32");
  run("binary_compare", COMPARISONS[name], a, b, both, { mask });
  return mask;
}

/** dy · ∂y/∂b of div, or dy · ∂y/∂a of maximum and minimum, in the shape of dy. */
export function binaryBackward(
  name: "div" | "maximum" | "minimum",
  dy: Tensor,
  a: Operand,
  b: Operand,
): Tensor {
  const both = checkOperands(name, a, b, "f32");
  checkShapeIs(`${name}_backward`, "dy", dy, both.shape);
  const d = Tensor.empty(`${name}_backward`, both.shape, "f32");
  run("binary_backward", ARITHMETIC[name], a, b, both, { dy, d });
  return d;
}

/** a^b in the common shape. f32. */
export function binaryPow(a: Operand, b: Operand): Tensor {
  const both = checkOperands("pow", a, b, "f32");
  const yf = Tensor.empty("pow", both.shape, "f32");
  run("binary_pow", smallPower(b), a, b, both, { yf });
  return yf;
}

/** dy · ∂(a^b)/∂a, or dy · ∂(a^b)/∂b, in the shape of dy. */
export function binaryPowBackward(by: "a" | "b", dy: Tensor, a: Operand, b: Operand): Tensor {
  const both = checkOperands("pow", a, b, "f32");
  checkShapeIs("pow_backward", "dy", dy, both.shape);
  const yf = Tensor.empty("pow_backward", both.shape, "f32");
  const power = typeof b === "number" && by === "a" ? b - 1 : b;
  run(`binary_pow_backward_${by}`, smallPower(power), a, b, both, { dyf: dy, yf });
  return yf;
}

/** An exponent that binary.wgsl multiplies out; 0 where it has to look. */
const smallPower = (b: Operand) => (b === 1 || b === 2 || b === 3 || b === 4 ? b : 0);

/** How a and b are walked, in units of `width` elements, outermost first. */
interface Pace {
  n: number;
  width: 1 | 4;
  shape: Shape;
  a: Shape;
  b: Shape;
}

const ONE: Shape = [1];

function paceOf(out: Shape, a: Shape, b: Shape, widest: 1 | 4): Pace {
  const n = sizeOf(out);
  // Ragged tails are harmless where everything is one run: buffers end on whole words of 16 bytes.
  if (sameShape(a, out) && sameShape(b, out)) {
    const steps = Math.ceil(n / widest);
    return { n: steps, width: widest, shape: [steps], a: ONE, b: ONE };
  }
  const joined = coalesce(out, broadcastStrides(a, out), broadcastStrides(b, out));
  const flat = joined.shape.length === 0;
  const shape = flat ? ONE : joined.shape;
  const [sa, sb] = flat ? [ONE, ONE] : [joined.strides[0]!, joined.strides[1]!];
  const last = shape.length - 1;
  const runs = sa[last] === 1 && sb[last] === 1 && (last === 0 || shape[last]! % 4 === 0);
  const aligned = (s: Shape) => s.every((step, i) => i === last || step % 4 === 0);
  if (widest === 1 || !runs || !aligned(sa) || !aligned(sb))
    return { n, width: 1, shape, a: sa, b: sb };
  const quarter = (s: Shape) => s.map((step, i) => (i === last ? step : step / 4));
  const size = shape.map((m, i) => (i === last ? Math.ceil(m / 4) : m));
  return { n: sizeOf(size), width: 4, shape: size, a: quarter(sa), b: quarter(sb) };
}

const MAX_WALK = 5;

type Entry =
  | "binary_forward"
  | "binary_compare"
  | "binary_backward"
  | "binary_pow"
  | "binary_pow_backward_a"
  | "binary_pow_backward_b";

function run(
  entry: Entry,
  OP: number,
  a: Operand,
  b: Operand,
  both: Operands,
  rest: Record<string, Tensor>,
): void {
  const { first, dtype, shape: out } = both;
  const scalar = typeof b === "number" ? b : typeof a === "number" ? a : 0;
  const SCALAR = typeof b === "number" ? 1 : typeof a === "number" ? 2 : 0;
  const one = SCALAR > 0;
  const power = entry.startsWith("binary_pow");
  const pace = paceOf(out, one ? out : shapeOf(a), one ? out : shapeOf(b), power ? 1 : 4);
  if (pace.shape.length > MAX_WALK) {
    const whole = (x: Operand) => (typeof x === "number" ? x : broadcastCopy(x, out, entry));
    run(entry, OP, whole(a), whole(b), both, rest);
    return;
  }
  const deal = dealt(entry, pace.n);
  const type = (t: string) => (pace.width === 4 ? `vec4<${t}>` : t);
  kernel.run(entry, {
    tensors: {
      [power ? "af" : "a"]: typeof a === "number" ? first : a,
      [power ? "bf" : "b"]: typeof b === "number" ? first : b,
      ...rest,
    },
    params: walkParams(pace, bitsOf(scalar, dtype)),
    constants: { ...deal.constants, OP, RANK: pace.shape.length, SCALAR },
    defines: { T: dtype, V: type(dtype), M: type("u32") },
    groups: deal.groups,
  });
}

/** The axes from the last one outward; those that there are not have size 1. */
function walkParams({ n, shape, a, b }: Pace, scalar: number): ParamValues {
  const r = shape.length;
  return {
    n,
    scalar,
    a_outer: a[0]!,
    b_outer: b[0]!,
    size1: shape[r - 1] ?? 1,
    size2: shape[r - 2] ?? 1,
    size3: shape[r - 3] ?? 1,
    size4: shape[r - 4] ?? 1,
    a1: a[r - 1] ?? 0,
    a2: a[r - 2] ?? 0,
    a3: a[r - 3] ?? 0,
    a4: a[r - 4] ?? 0,
    b1: b[r - 1] ?? 0,
    b2: b[r - 2] ?? 0,
    b3: b[r - 3] ?? 0,
    b4: b[r - 4] ?? 0,
  };
}
