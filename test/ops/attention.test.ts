import { equal, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { attention } from "../../src/autograd/ops/attention.ts";
import {
  attentionBackwardKV,
  attentionBackwardQ,
  attentionBackwardRows,
  attentionForward,
} from "../../src/kernels/attention.ts";
import { type AttentionOptions, attentionPlan } from "../../src/kernels/attention_plan.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import {
  checkBothPaths,
  checkOp,
  close,
  gpuTest,
  randomValues,
  runTests,
  theGpu,
  throwsLike,
} from "../gpu.ts";
import { Draw } from "../properties.ts";
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
  window?: number;
  softcap?: number;
  /** [B, T] or [B]. */
  starts?: readonly number[];
  ends?: readonly number[];
  /** Whether on the plain path too. */
  both?: boolean;
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
  const { causal = true, scale, window, softcap, starts, ends } = c;
  const options = Object.fromEntries(
    Object.entries({ causal, scale, window, softcap, starts, ends }).filter(
      ([, x]) => x !== undefined,
    ),
  );
  const range = (of: readonly number[] | undefined) =>
    of ? tensor(Int32Array.from(of), of.length === B * T && T > 1 ? [B, T] : [B]) : null;
  const values = [qShape, kvShape, kvShape].map((shape, i) =>
    randomValues(
      shape.reduce((a, b) => a * b, 1),
      11 + i,
      i === 2 ? 1 : size,
    ),
  ) as [Float64Array, Float64Array, Float64Array];
  const few = (x: Float64Array) => leading(x, B, S, keys);
  await (c.both ? checkBothPaths : checkOp)({
    name: `attention ${JSON.stringify(c)}`,
    run: (q, k, v) =>
      attention(q!, k!, v!, { ...options, keys, starts: range(starts), ends: range(ends) }),
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

gpuTest("attention: windows", async () => {
  for (const window of [1, 2, 7, 16, 33, 64]) {
    await check({ B: 1, T: 70, d: 8, H: 2, Hkv: 1, window, both: true });
    await check({ B: 1, T: 9, S: 40, keys: 33, d: 8, H: 2, Hkv: 2, window, both: true });
    await check({ B: 1, T: 37, d: 4, window, causal: false, both: true });
    await check({ B: 2, T: 1, S: 40, keys: 33, d: 8, H: 2, Hkv: 1, window });
  }
});

gpuTest("attention: softcap", async () => {
  for (const softcap of [0.5, 5, 50]) {
    await check({ B: 1, T: 37, d: 8, H: 2, Hkv: 1, softcap, size: 4, both: true });
    await check({ T: 1, S: 20, d: 8, H: 2, Hkv: 1, softcap, size: 4 });
  }
});

/** Where the sequence of each position begins and ends, for rows packed from sequences of these lengths. */
function packed(...rows: number[][]): { starts: number[]; ends: number[] } {
  const starts: number[] = [];
  const ends: number[] = [];
  for (const lengths of rows) {
    let at = 0;
    for (const length of lengths) {
      for (let i = 0; i < length; i++) {
        starts.push(at);
        ends.push(at + length);
      }
      at += length;
    }
  }
  return { starts, ends };
}

gpuTest("attention: packed sequences, forwards and both ways", async () => {
  const { starts, ends } = packed([1, 1, 35, 16, 1, 16], [70]);
  await check({ T: 70, d: 8, H: 2, Hkv: 1, starts, both: true });
  await check({ T: 70, d: 8, H: 2, Hkv: 2, starts, window: 5, both: true });
  await check({ T: 70, d: 4, H: 3, Hkv: 1, starts, ends, causal: false, both: true });
  const ones = Array.from({ length: 40 }, (_, i) => i);
  await check({ B: 1, T: 40, d: 4, starts: ones, both: true });
});

gpuTest("attention: a packed row is its sequences one by one", async () => {
  const [H, Hkv, d] = [4, 2, 8];
  const lengths = [3, 20, 1, 17];
  const T = 41;
  const make = (heads: number, seed: number) => randomValues(T * heads * d, seed, 2);
  const [q, k, v] = [make(H, 1), make(Hkv, 2), make(Hkv, 3)];
  const run = async (from: number, n: number, options: AttentionOptions) => {
    const cut = (x: Float64Array, heads: number) =>
      tensor(x.slice(from * heads * d, (from + n) * heads * d), [1, n, heads, d]);
    return noGrad(() => attention(cut(q, H), cut(k, Hkv), cut(v, Hkv), options)).data();
  };
  const starts = tensor(Int32Array.from(packed(lengths).starts), [1, T]);
  const whole = await run(0, T, { starts });
  let at = 0;
  for (const n of lengths) {
    const own = await run(at, n, {});
    close(whole.slice(at * H * d, (at + n) * H * d), own, 2e-6, `the sequence at ${at}`);
    at += n;
  }
});

gpuTest("attention: padding before, behind and all over sees and gives nothing", async () => {
  await check({ T: 20, d: 8, H: 2, Hkv: 1, starts: [7, 0], both: true });
  await check({ T: 20, d: 8, H: 2, Hkv: 1, starts: [20, 3], both: true });
  await check({ T: 20, d: 8, H: 2, Hkv: 1, ends: [0, 13], both: true });
  await check({ T: 1, S: 20, keys: 18, d: 8, H: 2, Hkv: 1, starts: [5, 18] });
  await check({ T: 6, S: 20, keys: 18, d: 8, H: 2, Hkv: 1, starts: [5, 18], ends: [9, 30] });
  // Behind: T as the start of each padded position.
  const starts = [0, 0, 0, 3, 3, 8, 8, 8];
  await check({ B: 1, T: 8, d: 4, starts, both: true });
  await check({ B: 1, T: 8, d: 4, starts: starts.map(() => 8), both: true });
});

gpuTest("attention: random ranges, heads and lengths, on both paths", async () => {
  const draw = new Draw(17);
  for (let n = 0; n < 25; n++) {
    const [B, T, Hkv] = [draw.int(1, 2), draw.int(2, 50), draw.int(1, 2)];
    const S = T + draw.pick([0, 0, 1, 9]);
    const causal = draw.chance(0.6);
    const any = () => Array.from({ length: B * T }, () => draw.int(-2, S + 1));
    await check({
      ...{ B, T, S, Hkv, H: Hkv * draw.int(1, 3), d: draw.pick([3, 4, 8, 12]), causal, both: true },
      ...(draw.chance(0.6) ? { starts: any() } : {}),
      ...(draw.chance(0.4) ? { ends: any() } : {}),
      ...(draw.chance(0.4) ? { window: draw.int(1, 20) } : {}),
      ...(draw.chance(0.3) ? { softcap: draw.pick([1, 30]) } : {}),
    });
  }
});

/** y, dq, dk and dv where the loops of an invocation may make so many rounds in one dispatch. */
async function inParts(inputs: Tensor[], rounds: number, options: AttentionOptions) {
  const [q, k, v, dy] = inputs as [Tensor, Tensor, Tensor, Tensor];
  const plan = { ...attentionPlan(q, k, v, options), rounds };
  const { y, lse } = attentionForward(q, k, v, plan);
  const stats = attentionBackwardRows(dy, y, lse, plan);
  const { dk, dv } = attentionBackwardKV(dy, q, k, v, stats, plan);
  const dq = attentionBackwardQ(dy, q, k, v, stats, plan);
  return Promise.all([y, dq, dk, dv].map(async (t) => [...(await t.data())]));
}

gpuTest("attention: walks that are split give the same", async () => {
  for (const [d, Hkv] of [
    [8, 2],
    [40, 1],
    [136, 4],
  ] as const) {
    const heads = [4, Hkv, Hkv, 4];
    const inputs = heads.map((h, i) =>
      tensor(randomValues(90 * h * d, i + 1, i < 2 ? 2 : 1), [1, 90, h, d]),
    );
    const { starts } = packed([40, 1, 49]);
    for (const options of [
      {},
      { window: 50 },
      { starts: tensor(Int32Array.from(starts), [1, 90]) },
    ]) {
      const whole = await inParts(inputs, Infinity, options);
      const split = await inParts(inputs, 1, options);
      for (const [i, name] of ["y", "dq", "dk", "dv"].entries()) {
        close(split[i]!, whole[i]!, 4e-6, `${name}, d ${d}`);
      }
    }
  }
});

/** Row i of y and of dq, and key j of dk and dv, of one head among several, causal, in float64. */
function oneHead(values: Float64Array[], T: number, H: number, d: number, h: number) {
  const [q, k, v, dy] = values as [Float64Array, Float64Array, Float64Array, Float64Array];
  const at = (i: number) => (i * H + h) * d;
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number) => {
    let sum = 0;
    for (let c = 0; c < d; c++) sum += a[at(i) + c]! * b[at(j) + c]!;
    return sum;
  };
  const row = (i: number) => {
    const p = Float64Array.from({ length: i + 1 }, (_, j) =>
      Math.exp(dot(q, i, k, j) / Math.sqrt(d)),
    );
    const total = p.reduce((a, b) => a + b, 0);
    const y = new Float64Array(d);
    for (let j = 0; j <= i; j++) {
      p[j]! /= total;
      for (let c = 0; c < d; c++) y[c]! += p[j]! * v[at(j) + c]!;
    }
    let D = 0;
    for (let c = 0; c < d; c++) D += dy[at(i) + c]! * y[c]!;
    const slope = (j: number) => (p[j]! * (dot(dy, i, v, j) - D)) / Math.sqrt(d);
    return { p, y, slope };
  };
  const dq = (i: number) => {
    const { slope } = row(i);
    const sum = new Float64Array(d);
    for (let j = 0; j <= i; j++) {
      const ds = slope(j);
      for (let c = 0; c < d; c++) sum[c]! += ds * k[at(j) + c]!;
    }
    return sum;
  };
  const keys = (few: readonly number[]) => {
    const sums = few.map(() => ({ dk: new Float64Array(d), dv: new Float64Array(d) }));
    for (let i = Math.min(...few); i < T; i++) {
      const { p, slope } = row(i);
      for (const [n, j] of few.entries()) {
        if (j > i) continue;
        const ds = slope(j);
        for (let c = 0; c < d; c++) {
          sums[n]!.dk[c]! += ds * q[at(i) + c]!;
          sums[n]!.dv[c]! += p[j]! * dy[at(i) + c]!;
        }
      }
    }
    return sums;
  };
  return { row, dq, keys };
}

gpuTest("attention: a context of 8,192, without a buffer of T · T", async () => {
  // SwiftShader is ten times slower.
  const [T, H, d] = theGpu().info.subgroupMaxSize === 4 ? [8192, 1, 8] : [8192, 2, 16];
  const values = [3, 3, 1, 1].map((size, i) => randomValues(T * H * d, i + 1, size));
  const [q, k, v] = values.slice(0, 3).map((x) => parameter(tensor(x, [1, T, H, d])));
  theGpu().resetPeak();
  const bytesBefore = theGpu().stats().bytesPeak;
  const y = attention(q!, k!, v!);
  backward(y, { gradient: tensor(values[3]!, [1, T, H, d]) });
  // y, its gradient, dq, dk, dv and five numbers of each row, with room for what the pool rounds up.
  const most = 2 * 4 * T * H * (5 * d + 5);
  ok(theGpu().stats().bytesPeak - bytesBefore < most, "more than O(T) bytes");
  const [ys, dq, dk, dv] = await Promise.all(
    [y, q!.grad!, k!.grad!, v!.grad!].map((t) => t.data()),
  );
  const head = (x: ArrayLike<number>, i: number) =>
    Array.from({ length: d }, (_, c) => x[(i * H + H - 1) * d + c]!);
  const expected = oneHead(values, T, H, d, H - 1);
  for (const i of [0, 1, 4095, 8191]) {
    close(head(ys!, i), expected.row(i).y, 4e-6, `y of row ${i}`);
    close(head(dq!, i), expected.dq(i), 4e-6, `dq of row ${i}`);
  }
  const few = [6000, 8000, 8191];
  for (const [n, sums] of expected.keys(few).entries()) {
    close(head(dk!, few[n]!), sums.dk, 1e-5, `dk of key ${few[n]}`);
    close(head(dv!, few[n]!), sums.dv, 1e-5, `dv of key ${few[n]}`);
  }
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
  for (const window of [0, -1, 1.5, Number.NaN]) {
    throwsLike(
      () => attention(q, k, k, { window }),
      "ValueError",
      `attention: window must be a positive integer, or null for all keys, got ${window}`,
    );
  }
  for (const softcap of [0, -1, Infinity]) {
    throwsLike(
      () => attention(q, k, k, { softcap }),
      "ValueError",
      `attention: softcap must be positive and finite, or null for none, got ${softcap}`,
    );
  }
  for (const arg of ["starts", "ends"] as const) {
    for (const shape of [[3], [2, 5], [2, 3, 1], []]) {
      throwsLike(
        () => attention(q, k, k, { [arg]: zeros(shape, "i32") }),
        "ShapeError",
        `attention: ${arg} must be [B] = [2] or [B, T] = [2, 3], got`,
      );
    }
    throwsLike(
      () => attention(q, k, k, { [arg]: zeros([2]) }),
      "DTypeError",
      `attention: ${arg} must be i32, got f32`,
    );
  }
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
