// Making tensors from numbers, constants and random numbers.
import { gpu } from "../gpu/device.ts";
import { DTypeError, ShapeError, ValueError } from "../gpu/errors.ts";
import { refuseUpload } from "../gpu/recording.ts";
import { bytesOf, bytesPerElement, type DType, encode } from "./dtype.ts";
import type { Nested } from "./inspect.ts";
import { nextKeyWords, philox4x32, type Words } from "./philox.ts";
import { isQuantized, type QuantizedType, quantizeValues } from "./quantized.ts";
import { currentScope } from "./scope.ts";
import { checkShape, format, type Shape, sizeOf } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** Throws for a bad shape or type, and LimitError where the device cannot hold it: before memory is asked for. */
function checkNew(op: string, shape: Shape, dtype: DType): void {
  checkShape(op, shape);
  gpu(op).pool.check(op, bytesOf(shape, dtype, op));
}

/** Uploads the raw bytes of a tensor. Throws ShapeError where their number does not fit the shape. */
export function fromBytes(bytes: Uint8Array, shape: Shape, dtype: DType, op = "tensor"): Tensor {
  checkNew(op, shape, dtype);
  const expected = bytesOf(shape, dtype);
  if (isQuantized(dtype) && bytes.byteLength !== expected) {
    const facts = { arg: "bytes", expected: `${expected} for ${dtype}${format(shape)}` };
    throw new ShapeError({ op, ...facts, got: `${bytes.byteLength}` });
  }
  if (bytes.byteLength !== expected) {
    throw new ShapeError({
      op,
      arg: "values",
      expected: `${sizeOf(shape)} elements of ${dtype} for shape ${format(shape)}`,
      got: `${bytes.byteLength / bytesPerElement(dtype)}`,
    });
  }
  refuseUpload(op);
  const t = Tensor.empty(op, shape, dtype);
  t.upload(bytes);
  return t;
}

/**
 * A tensor from a number, nested arrays, or flat values with a shape.
 * @param values  numbers; nested arrays must be rectangular
 * @param shape  the shape, needed for flat typed arrays of more than one axis
 * @param dtype  default: i32 for Int32Array, u32 for Uint32Array, else f32
 */
export function tensor(values: Nested | ArrayLike<number>, shape?: Shape, dtype?: DType): Tensor {
  const kind = dtype ?? dtypeOf(values);
  if (ArrayBuffer.isView(values)) {
    const flat = values as unknown as ArrayLike<number>;
    const dims = shape ?? [flat.length];
    checkCount(flat.length, dims, kind);
    return fromBytes(encode(flat, kind), dims, kind);
  }
  const nested = values as Nested;
  const own = shapeOfNested(nested);
  const flat: number[] = [];
  flatten(nested, own, 0, flat);
  const dims = shape ?? own;
  checkCount(flat.length, dims, kind);
  return fromBytes(encode(flat, kind), dims, kind);
}

function checkCount(got: number, shape: Shape, dtype: DType): void {
  checkNew("tensor", shape, dtype);
  if (got === sizeOf(shape)) return;
  throw new ShapeError({
    op: "tensor",
    arg: "values",
    expected: `${sizeOf(shape)} numbers for shape ${format(shape)}`,
    got: `${got}`,
  });
}

function dtypeOf(values: unknown): DType {
  if (values instanceof Int32Array) return "i32";
  return values instanceof Uint32Array ? "u32" : "f32";
}

function shapeOfNested(values: Nested): number[] {
  const shape: number[] = [];
  for (let at: Nested | undefined = values; Array.isArray(at); at = at[0]) shape.push(at.length);
  return shape;
}

function flatten(values: Nested, shape: Shape, depth: number, out: number[]): void {
  if (!Array.isArray(values)) {
    if (depth === shape.length && typeof values === "number") {
      out.push(values);
      return;
    }
  } else if (values.length === shape[depth]) {
    for (const part of values) flatten(part, shape, depth + 1, out);
    return;
  }
  throw new ShapeError({
    op: "tensor",
    arg: "values",
    expected: `nested arrays of numbers of shape ${format(shape)}`,
    got: Array.isArray(values) ? `${values.length} parts at depth ${depth}` : `${values}`,
    hint: "All rows must have the same length.",
  });
}

/** A tensor of zeros. */
export function zeros(shape: Shape, dtype: DType = "f32"): Tensor {
  checkNew("zeros", shape, dtype);
  const t = Tensor.empty("zeros", shape, dtype);
  const { block, byteOffset } = t.storage;
  t.storage.gpu.stream.clear(block, byteOffset, Math.ceil(t.bytes / 4) * 4);
  return t;
}

/** A tensor with `value` everywhere. */
export function full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  return filled("full", shape, value, dtype);
}

/** A tensor of ones. */
export function ones(shape: Shape, dtype: DType = "f32"): Tensor {
  return filled("ones", shape, 1, dtype);
}

function filled(op: string, shape: Shape, value: number, dtype: DType): Tensor {
  checkNew(op, shape, dtype);
  if (value === 0) return zeros(shape, dtype);
  const values = new Float64Array(sizeOf(shape)).fill(value);
  return fromBytes(encode(values, dtype, op), shape, dtype, op);
}

/** start, start + step, … below `end`. `arange(n)` counts from 0. */
export function arange(start: number, end?: number, step = 1, dtype: DType = "f32"): Tensor {
  const op = "arange";
  const [from, to] = end === undefined ? [0, start] : [start, end];
  for (const [arg, value] of Object.entries({ start: from, end: to, step })) {
    if (Number.isFinite(value) && (arg !== "step" || value !== 0)) continue;
    const expected = arg === "step" ? "finite and not 0" : "finite";
    throw new ValueError({ op, arg, expected, got: `${value}` });
  }
  const n = Math.max(0, Math.ceil((to - from) / step));
  checkNew(op, [n], dtype);
  const values = Float64Array.from({ length: n }, (_, i) => from + i * step);
  return fromBytes(encode(values, dtype, op), [n], dtype, op);
}

/** `n` words of random bits, from a key drawn now. */
function randomWords(n: number): Uint32Array {
  const key = nextKeyWords();
  const words = new Uint32Array(Math.ceil(n / 4) * 4);
  const counter: Words = [0, 0, 0, 0];
  for (let i = 0; i < words.length; i += 4) {
    counter[0] = i / 4;
    words.set(philox4x32(counter, key), i);
  }
  return words;
}

/** Uniform numbers in [low, high), from `manualSeed`'s stream. */
export function rand(shape: Shape, low = 0, high = 1): Tensor {
  checkNew("rand", shape, "f32");
  const n = sizeOf(shape);
  const words = randomWords(n);
  const values = Float32Array.from(
    { length: n },
    (_, i) => low + (high - low) * ((words[i]! >>> 8) / 2 ** 24),
  );
  return tensor(values, shape);
}

/** Normal numbers by Box and Muller's method, from `manualSeed`'s stream. */
export function randn(shape: Shape, mean = 0, std = 1): Tensor {
  checkNew("randn", shape, "f32");
  const n = sizeOf(shape);
  const words = randomWords(n + (n % 2));
  const values = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log((words[i]! + 1) / (2 ** 32 + 1)));
    const angle = 2 * Math.PI * (words[i + 1]! / 2 ** 32);
    values[i] = mean + std * radius * Math.cos(angle);
    if (i + 1 < n) values[i + 1] = mean + std * radius * Math.sin(angle);
  }
  return tensor(values, shape);
}

/** A leaf that wants a gradient and outlives scopes. Takes the tensor over; it must be f32. */
export function parameter(t: Tensor): Tensor {
  t.checkAlive("parameter");
  if (!t.isLeaf) {
    throw new ValueError({
      op: "parameter",
      arg: "the tensor",
      expected: "a leaf",
      got: "the result of an op",
      hint: "Use `x.detach()`.",
    });
  }
  t.requiresGrad = true;
  if (t.storage.category === "workspace") t.storage.category = "base";
  if (currentScope()) t.persist();
  return t;
}

/**
 * A frozen copy of a matrix in few bits, for the weights of linear layers. int8: 8 bits, a scale for each row.
 * nf4: 4 bits, a scale of 8 bits for each 64 neighbours. Values are computed on the host, to the same bits on
 * every device, and are those of bitsandbytes.
 * @param x  [rows, columns] of f32, f16 or bf16, finite
 * @throws DTypeError, ShapeError, ValueError
 * @see Dettmers et al. 2023, arXiv 2305.14314
 */
export async function quantize(x: Tensor, type: QuantizedType): Promise<Tensor> {
  const op = "quantize";
  if (!isQuantized(type)) {
    throw new DTypeError({ op, arg: "type", expected: "int8 or nf4", got: `${type}` });
  }
  x.checkAlive(op, "x");
  if (x.dtype === "i32" || x.dtype === "u32") {
    throw new DTypeError({ op, arg: "x", expected: "f32, f16 or bf16", got: x.dtype });
  }
  checkNew(op, x.shape, type);
  const values = (await x.data()) as Float32Array;
  return fromBytes(quantizeValues(values, x.shape, type), x.shape, type, op);
}
