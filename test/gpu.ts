// What every GPU test shares: one device, tolerances, and checkOp, which proves an op in one call.

import { test as uvuTest } from "uvu";
import { is, ok } from "uvu/assert";
import { backward } from "../src/autograd/backward.ts";
import { type Gpu, init } from "../src/gpu/device.ts";
import { setKernelPath } from "../src/kernels/path.ts";
import { parameter, tensor } from "../src/tensor/create.ts";
import type { DType } from "../src/tensor/dtype.ts";
import { scope } from "../src/tensor/scope.ts";
import { sizeOf } from "../src/tensor/shape.ts";
import type { Tensor } from "../src/tensor/tensor.ts";

let device: Gpu | null = null;
let missing = "";
try {
  device = await init();
} catch (error) {
  missing = (error as Error).message;
  console.error(`no device, GPU tests are skipped: ${missing}`);
}

/** A test that needs the device; reported as skipped where there is none. */
export function gpuTest(name: string, body: () => Promise<void> | void): void {
  if (!device) {
    uvuTest.skip(name, body);
    return;
  }
  uvuTest(name, async () => {
    using _ = scope();
    await body();
    await device!.sync();
  });
}

/** The device of the tests. */
export function theGpu(): Gpu {
  return device!;
}

/** Runs the file's tests; call it at its end. */
export function runTests(): void {
  uvuTest.run();
}

const EPSILON: Record<"f32" | "f16" | "bf16", number> = {
  f32: 2 ** -23,
  f16: 2 ** -10,
  bf16: 2 ** -7,
};

/** Allowed error for a sum of K products of numbers of size 1: grows with √K. */
export function tolerance(dtype: "f32" | "f16" | "bf16" = "f32", K = 1): number {
  return 8 * EPSILON[dtype] * Math.sqrt(K);
}

/** Deterministic numbers in [-scale, scale] for tests, with no relation to the library's generator. */
export function randomValues(n: number, seed = 1, scale = 1): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: n }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    // Rounded to f32, so that the float64 reference sees the very numbers that the GPU sees.
    return Math.fround(scale * ((state / 2 ** 32) * 2 - 1));
  });
}

/** Throws where values differ by more than `bound` · (1 + the largest expected magnitude). */
export function close(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: number,
  what: string,
): void {
  is(got.length, expected.length, `${what}: number of elements`);
  let scale = 1;
  for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i]!));
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(got[i]! - expected[i]!);
    if (error <= bound * scale) continue;
    const facts = `expected ${expected[i]}, got ${got[i]}, error ${error} > ${bound * scale}`;
    ok(false, `${what}[${i}]: ${facts}`);
  }
}

export interface OpCase {
  /** Shown in failures, such as `gelu tanh [3, 7]`. */
  name: string;
  /** The op under test, a function of the inputs. */
  run: (...inputs: Tensor[]) => Tensor;
  /** Its inputs: shape, and values or a seed. `grad: false` for indices and frozen weights. */
  inputs: readonly {
    shape: readonly number[];
    values?: ArrayLike<number>;
    dtype?: DType;
    grad?: boolean;
  }[];
  /** Float64 forward. */
  forward: (...inputs: Float64Array[]) => ArrayLike<number>;
  /** Float64 gradients of the inputs, in order; null for those without. */
  backward?: (dy: Float64Array, ...inputs: Float64Array[]) => readonly (ArrayLike<number> | null)[];
  /** Length of the longest sum, for the tolerance. */
  K?: number;
  /** Tolerance in place of the usual one; give a reason where it is larger. */
  bound?: number;
}

/** Compares an op's result and every gradient with the float64 reference. */
export async function checkOp(c: OpCase): Promise<void> {
  using _ = scope();
  const values = c.inputs.map((input, i) =>
    Float64Array.from(
      input.values ?? randomValues(sizeOf(input.shape), i + 1 + sizeOf(input.shape)),
    ),
  );
  const tensors = c.inputs.map((input, i) => {
    const t = tensor(values[i]!, input.shape, input.dtype ?? "f32");
    return c.backward && input.grad !== false ? parameter(t) : t;
  });
  const bound = c.bound ?? tolerance("f32", c.K ?? 1);
  const y = c.run(...tensors);
  const expected = c.forward(...values);
  close(await y.data(), expected, bound, `${c.name}: y`);
  if (!c.backward) return;
  const dy = randomValues(y.size, 99);
  backward(y, { gradient: tensor(dy, y.shape) });
  const grads = c.backward(dy, ...values);
  for (const [i, g] of grads.entries()) {
    const got = tensors[i]!.grad;
    if (!g) {
      ok(!got, `${c.name}: input ${i + 1} must not get a gradient`);
      continue;
    }
    ok(got, `${c.name}: input ${i + 1} got no gradient`);
    close(await got.data(), g, bound * 2, `${c.name}: gradient of input ${i + 1}`);
  }
  for (const t of tensors) {
    t.grad?.dispose();
    t.dispose();
  }
}

/** checkOp on the plain path, then on the one that suits the device. */
export async function checkBothPaths(c: OpCase): Promise<void> {
  for (const path of ["plain", "auto"] as const) {
    setKernelPath(path);
    try {
      await checkOp({ ...c, name: `${c.name}, ${path} path` });
    } finally {
      setKernelPath("auto");
    }
  }
}

/** Asserts that fn throws an error of this class name whose message holds all the parts. */
export function throwsLike(
  fn: () => unknown,
  className: string,
  ...parts: (string | RegExp)[]
): void {
  let error: Error | null = null;
  try {
    fn();
  } catch (e) {
    error = e as Error;
  }
  ok(error, `expected ${className}, nothing was thrown`);
  is(error.name, className, error.message);
  for (const part of parts) {
    ok(
      typeof part === "string" ? error.message.includes(part) : part.test(error.message),
      `the message "${error.message}" lacks ${part}`,
    );
  }
}
