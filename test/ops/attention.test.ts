import { equal } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { attention } from "../../src/autograd/ops/attention.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkOp, gpuTest, randomValues, runTests, theGpu, throwsLike } from "../gpu.ts";
import * as reference from "../reference/attention.ts";

interface Case {
  B?: number;
  T: number;
  S?: number;
  H?: number;
  Hkv?: number;
  d: number;
  keys?: number;
  causal?: boolean;
  scale?: number;
  /** Size of the values of q and k. */
  size?: number;
  grad?: boolean;
}

/** Rows 0 … keys − 1 of every batch. */
function leading(x: Float64Array, B: number, S: number, keys: number): Float64Array {
  const row = B * S > 0 ? x.length / (B * S) : 0;
  const out = new Float64Array(B * keys * row);
  for (let b = 0; b < B; b++) {
    out.set(x.subarray(b * S * row, (b * S + keys) * row), b * keys * row);
  }
  return out;
}

/** The inverse of leading(): zeros in the rows behind. */
function widened(x: Float64Array, size: number, B: number, S: number, keys: number): Float64Array {
  const row = B * keys > 0 ? x.length / (B * keys) : 0;
  const out = new Float64Array(size);
  for (let b = 0; b < B; b++) {
    out.set(x.subarray(b * keys * row, (b + 1) * keys * row), b * S * row);
  }
  return out;
}

async function check(c: Case): Promise<void> {
  const { B = 2, T, S = T, H = 1, Hkv = 1, d, keys = S, size = 2, grad = true } = c;
  const qShape = [B, T, H, d] as const;
  const kvShape = [B, S, Hkv, d] as const;
  const seen = [B, keys, Hkv, d] as const;
  const options = { causal: c.causal ?? true, ...(c.scale ? { scale: c.scale } : {}) };
  const values = [qShape, kvShape, kvShape].map((shape, i) =>
    randomValues(
      shape.reduce((a, b) => a * b, 1),
      11 + i,
      i === 2 ? 1 : size,
    ),
  ) as [Float64Array, Float64Array, Float64Array];
  const few = (x: Float64Array) => leading(x, B, S, keys);
  await checkOp({
    name: `attention ${JSON.stringify(c)}`,
    run: (q, k, v) => attention(q!, k!, v!, { ...options, keys }),
    inputs: [qShape, kvShape, kvShape].map((shape, i) => ({ shape, values: values[i]! })),
    forward: (q, k, v) => reference.attention(q!, qShape, few(k!), few(v!), seen, options),
    ...(grad
      ? {
          backward: (dy, q, k, v) => {
            const [dq, dk, dv] = reference.attentionBackward(
              dy,
              q!,
              qShape,
              few(k!),
              few(v!),
              seen,
              options,
            );
            return [dq, widened(dk, k!.length, B, S, keys), widened(dv, v!.length, B, S, keys)];
          },
        }
      : {}),
    // Sums over d and over the keys; a score's error grows with its size.
    K: Math.max(d, T, S),
  });
}

gpuTest("attention: lengths, causal and not", async () => {
  for (const T of [1, 3, 16, 33, 65]) {
    for (const causal of [true, false]) {
      await check({ T, d: 8, H: 2, Hkv: 2, causal });
      await check({ T, S: T + 5, d: 8, H: 2, Hkv: 1, causal });
    }
  }
});

gpuTest("attention: head sizes", async () => {
  for (const d of [1, 3, 8, 16, 32, 64, 80]) {
    await check({ T: 9, d, H: 2, Hkv: 2, causal: d % 16 === 0 });
    await check({ T: 5, S: 11, keys: 9, d, H: 4, Hkv: 2 });
  }
  // lavapipe takes 10 s to compile the gradients of this size, the only one of its kind.
  await check({ B: 1, T: 6, d: 256, grad: theGpu().adapterClass !== "lavapipe" });
});

gpuTest("attention: grouped heads", async () => {
  for (const [H, Hkv] of [
    [1, 1],
    [4, 2],
    [6, 1],
    [6, 3],
  ] as const) {
    for (const T of [1, 3, 17]) await check({ T, S: 17, H, Hkv, d: 4 });
  }
});

gpuTest("attention: a cache that is longer than filled", async () => {
  for (const [T, S, keys] of [
    [1, 40, 1],
    [1, 40, 33],
    [3, 40, 9],
    [16, 20, 16],
    [9, 30, 21],
  ] as const) {
    await check({ T, S, keys, H: 4, Hkv: 2, d: 8 });
    await check({ T, S, keys, H: 2, Hkv: 2, d: 8, causal: false });
  }
});

gpuTest("attention: more queries than keys, scale, empty tensors", async () => {
  await check({ T: 7, S: 3, d: 8, causal: false });
  await check({ T: 7, d: 8, scale: 0.9 });
  await check({ T: 3, S: 4, keys: 0, d: 8, causal: false });
  await check({ B: 0, T: 3, d: 8 });
  await check({ T: 0, S: 3, d: 8 });
  await check({ T: 0, d: 8 });
});

gpuTest("attention: large scores", async () => {
  // One key takes all the weight, so errors of the scores (2e4 · 2^-23) hardly show.
  await check({ T: 9, d: 16, size: 150, grad: false });
  await check({ T: 1, S: 50, d: 16, size: 150, grad: false });
});

/** Attention of numbers with later tokens as they are or changed. */
async function values(q: Tensor, k: Tensor, v: Tensor): Promise<number[]> {
  return [...(await noGrad(() => attention(q, k, v)).data())];
}

gpuTest("attention: later tokens change no bit of a row", async () => {
  const shape = [1, 33, 2, 8];
  const n = 33 * 2 * 8;
  const cut = 13 * 2 * 8;
  const make = (seed: number) => randomValues(n, seed, 3);
  const [q, k, v] = [make(1), make(2), make(3)] as const;
  const before = await values(tensor(q, shape), tensor(k, shape), tensor(v, shape));
  const changed = [q, k, v].map((x) =>
    tensor(
      x.map((a, i) => (i < cut ? a : 50 * a - 7)),
      shape,
    ),
  );
  const after = await values(changed[0]!, changed[1]!, changed[2]!);
  equal(after.slice(0, cut), before.slice(0, cut));
});

gpuTest("attention: refuses what does not fit", () => {
  const [q, k] = [zeros([2, 3, 4, 8]), zeros([2, 5, 2, 8])];
  throwsLike(
    () => attention(zeros([2, 3, 8]), k, k),
    "ShapeError",
    "attention: q must be [B, T, H, d], got [2, 3, 8]",
  );
  throwsLike(
    () => attention(q, zeros([2, 5, 8]), k),
    "ShapeError",
    "attention: k must be [B, S, Hkv, d]",
  );
  throwsLike(
    () => attention(q, zeros([1, 5, 2, 8]), k),
    "ShapeError",
    "k must be [B, S, Hkv, d] = [2, 5, 2, 8]",
  );
  throwsLike(
    () => attention(q, k, zeros([2, 6, 2, 8])),
    "ShapeError",
    "v must be [B, S, Hkv, d] = [2, 5, 2, 8]",
  );
  throwsLike(
    () => attention(q, zeros([2, 5, 3, 8]), zeros([2, 5, 3, 8])),
    "ShapeError",
    "Hkv a divisor of H = 4",
  );
  const wide = zeros([1, 1, 1, 257]);
  throwsLike(() => attention(wide, wide, wide), "ShapeError", "d in 1 … 256, got [1, 1, 1, 257]");
  throwsLike(
    () => attention(q, k, k, { keys: 6 }),
    "ValueError",
    "keys must be an integer in [0, 5]",
  );
  throwsLike(
    () => attention(q, k, k, { keys: 2 }),
    "ValueError",
    "keys must be at least T = 3",
    "causal: false",
  );
  throwsLike(
    () => attention(q, k, k, { scale: Number.NaN }),
    "ValueError",
    "scale must be finite, got NaN",
  );
  throwsLike(
    () => attention(zeros([2, 3, 4, 8], "f16"), k, k),
    "DTypeError",
    "attention: q must be f32, got f16",
  );
  throwsLike(
    () => attention(q, k, zeros([2, 5, 2, 8], "i32")),
    "DTypeError",
    "attention: v must be f32",
  );
});

runTests();
