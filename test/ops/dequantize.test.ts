// int8 and NF4 where they are used: dequantised alone, inside products, and inside lora_linear.
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import { cast, linear, loraLinear, loraMixed, reshape } from "../../src/autograd/ops/index.ts";
import { forceMatmulVariant, matmulVariants } from "../../src/kernels/matmul_variant.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { parameter, quantize, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { dequantizeValues, QUANTIZED_TYPES, quantizeValues } from "../../src/tensor/quantized.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import { type Draw, property } from "../properties.ts";
import { dropoutMask } from "../reference/dropout.ts";
import * as loraReference from "../reference/lora_linear.ts";
import { matmul as product } from "../reference/matmul.ts";
import { checkRefused } from "../refused.ts";

const random = (m: number, n: number, seed: number) => tensor(randomValues(m * n, seed), [m, n]);

/** A quantised weight [out, in], and what it stands for. */
async function weightOf(out: number, inner: number, type: "int8" | "nf4", seed = 7) {
  const wide = random(out, inner, seed);
  const W = await quantize(wide, type);
  wide.dispose();
  const values = await W.data();
  return { W, values: Float64Array.from(values) };
}

const SHAPES = [
  [1, 1],
  [1, 3],
  [3, 64],
  [5, 65],
  [17, 52],
  [64, 128],
  [33, 300],
  [260, 70],
];

gpuTest("dequantize: the kernel's numbers are the host's, and cast gives them too", async () => {
  for (const type of QUANTIZED_TYPES) {
    for (const [seed, shape] of SHAPES.entries()) {
      const values = Float32Array.from(randomValues(shape[0]! * shape[1]!, seed + 1));
      const bytes = quantizeValues(values, shape, type);
      const expected = dequantizeValues(bytes, shape, type);
      const W = await quantize(tensor(values, shape), type);
      equal(new Uint8Array(await W.rawBytes()), bytes, `${type} [${shape}]: bytes`);
      equal(await W.data(), expected, `${type} [${shape}]: data`);
      close(await cast(W, "f32").data(), expected, 2e-7, `${type} [${shape}]: cast`);
      close(await cast(W, "bf16").data(), expected, 2 ** -8, `${type} [${shape}]: bf16`);
    }
  }
});

gpuTest("quantize: f16 and bf16 are read as they are, empty matrices stay empty", async () => {
  for (const type of QUANTIZED_TYPES) {
    const half = cast(random(9, 70, 3), "bf16");
    const values = (await half.data()) as Float32Array;
    const W = await quantize(half, type);
    equal(new Uint8Array(await W.rawBytes()), quantizeValues(values, [9, 70], type));
    const none = await quantize(zeros([0, 8]), type);
    is((await cast(none, "f32").data()).length, 0);
    is(linear(zeros([3, 8]), none).size, 0);
  }
});

gpuTest(
  "K1 K2 linear over int8 and nf4: every kernel, forward and dx, over ragged shapes",
  async () => {
    const cases = [
      [1, 1, 1],
      [3, 7, 5],
      [5, 64, 33],
      [1, 128, 64],
      [17, 60, 68],
      [40, 192, 132],
      [33, 320, 36],
      [64, 65, 66],
      [9, 256, 300],
    ];
    for (const type of QUANTIZED_TYPES) {
      for (const variant of matmulVariants().filter((v) => v !== "subgroup_matrix")) {
        for (const [M, K, N] of cases as [number, number, number][]) {
          const { W, values } = await weightOf(N, K, type);
          const x = parameter(random(M, K, 1));
          const dy = randomValues(M * N, 3);
          const bias = random(1, N, 4).view([N]);
          forceMatmulVariant(variant);
          try {
            const y = linear(x, W, bias);
            backward(y, { gradient: tensor(dy, [M, N]) });
            const b = await bias.data();
            const plain = product(await x.data(), [M, K], values, [N, K], {
              transposeB: true,
            }).data;
            const what = `${type} ${variant} ${M}×${K}×${N}`;
            close(
              await y.data(),
              plain.map((v, i) => v + b[i % N]!),
              tolerance("f32", K),
              what,
            );
            const dx = product(dy, [M, N], values, [N, K]).data;
            close(await x.grad!.data(), dx, tolerance("f32", N), `${what}: dx`);
          } finally {
            forceMatmulVariant(null);
          }
          x.grad!.dispose();
          x.dispose();
        }
      }
    }
  },
);

property("linear over int8 and nf4: any shape, on either path", 12, async (draw: Draw) => {
  const [M, K, N] = [draw.int(1, 40), draw.int(1, 200), draw.int(1, 90)];
  const type = draw.pick(QUANTIZED_TYPES);
  const { W, values } = await weightOf(N, K, type, draw.int(1, 99));
  const x = parameter(tensor(draw.values(M * K), [M, K]));
  const dy = draw.values(M * N);
  setKernelPath(draw.pick(["plain", "auto"]));
  try {
    const y = linear(x, W);
    backward(y, { gradient: tensor(dy, [M, N]) });
    const what = `${type} ${M}×${K}×${N}`;
    const plain = product(await x.data(), [M, K], values, [N, K], { transposeB: true }).data;
    close(await y.data(), plain, tolerance("f32", K), what);
    const dx = product(dy, [M, N], values, [N, K]).data;
    close(await x.grad!.data(), dx, tolerance("f32", N), `${what}: dx`);
  } finally {
    setKernelPath("auto");
    x.grad?.dispose();
    x.dispose();
  }
});

const SIZES = [
  { N: 3, in: 7, out: 5, r: 2 },
  { N: 20, in: 64, out: 96, r: 8 },
  { N: 33, in: 192, out: 65, r: 1 },
];

gpuTest(
  "K1 K2 K4 lora_linear over int8 and nf4: y, dx, dA, dB against float64, dropping alike",
  async () => {
    for (const type of QUANTIZED_TYPES) {
      for (const n of SIZES) {
        for (const p of [0, 0.3]) {
          const { W, values } = await weightOf(n.out, n.in, type);
          const shapes = [
            [n.N, n.in],
            [n.r, n.in],
            [n.out, n.r],
          ] as [number, number][];
          const [x, A, B] = shapes.map(([r, c], i) => parameter(random(r, c, i + 1))) as T3;
          const bias = random(1, n.out, 9).view([n.out]);
          const [xs, As, Bs, bs] = await numbers(x, A, B, bias);
          const mask = p > 0 ? dropoutMask(n.N * n.in, p, [9, 0]) : null;
          manualSeed(9);
          const y = loraLinear(x, W, bias, A, B, { scale: 2, dropout: p });
          const dy = randomValues(n.N * n.out, 5);
          backward(y, { gradient: tensor(dy, [n.N, n.out]) });
          const what = `${type} ${JSON.stringify(n)} p ${p}`;
          const bound = tolerance("f32", n.in + n.out + n.r);
          close(
            await y.data(),
            loraReference.loraLinear(xs!, values, bs!, As!, Bs!, n, 2, mask),
            bound,
            what,
          );
          const expected = loraReference.loraLinearBackward(dy, xs!, values, As!, Bs!, n, 2, mask);
          for (const [i, t] of [x, A, B].entries()) {
            close(await t.grad!.data(), expected[i]!, 2 * bound, `${what}: gradient ${i}`);
            t.grad!.dispose();
            t.dispose();
          }
        }
      }
    }
  },
);

type T3 = [Tensor, Tensor, Tensor];

async function numbers(...list: Tensor[]): Promise<Float64Array[]> {
  return Promise.all(list.map(async (t) => Float64Array.from(await t.data())));
}

gpuTest("F1 lora_linear over int8 and nf4: with B zero, every bit is the base's", async () => {
  for (const type of QUANTIZED_TYPES) {
    for (const n of SIZES) {
      const { W } = await weightOf(n.out, n.in, type);
      const x = random(n.N, n.in, 1);
      const y = loraLinear(x, W, null, random(n.r, n.in, 2), zeros([n.out, n.r]));
      equal(await y.data(), await linear(x, W).data(), `${type} ${JSON.stringify(n)}`);
    }
  }
});

gpuTest("lora_mixed over int8 and nf4 is lora_linear for each sequence", async () => {
  const [T, K, N, r] = [5, 64, 36, 4];
  for (const type of QUANTIZED_TYPES) {
    const { W } = await weightOf(N, K, type);
    const x = tensor(randomValues(3 * T * K, 1), [3, T, K]);
    const As = [random(r, K, 2), random(r, K, 3)];
    const Bs = [random(N, r, 4), random(N, r, 5)];
    const terms = [2, 3].map((scale) => ({ scale, p: 0, key: [0, 0] as const }));
    const y = loraMixed(x, W, null, As, Bs, { transposed: false, terms, rows: [[0], [1], []] });
    const whole = await reshape(y, [3, T * N]).data();
    for (const i of [0, 1]) {
      const own = loraLinear(x, W, null, As[i]!, Bs[i]!, { scale: [2, 3][i]! });
      const part = (await own.data()).slice(i * T * N, (i + 1) * T * N);
      close(whole.slice(i * T * N, (i + 1) * T * N), part, tolerance("f32", K), type);
    }
  }
});

gpuTest(
  "a quantised matrix is refused where its numbers cannot be used, and never trained",
  async () => {
    for (const type of QUANTIZED_TYPES) {
      const { W } = await weightOf(8, 64, type);
      const [x, narrow, ids] = [random(3, 64, 1), random(3, 60, 1), zeros([2], "i32")];
      checkRefused([
        [() => ops.matmul(W, x), "DTypeError: matmul: a must be f32"],
        [() => linear(narrow, W), "ShapeError: linear: x must be [..., in = 64]"],
        [() => ops.add(W, W), "DTypeError: add"],
        [() => ops.transpose(W, 0, 1), "DTypeError"],
        [() => ops.slice(W, 0, 0, 2), "DTypeError"],
        [() => ops.concat([W, W]), "DTypeError"],
        [() => ops.broadcastTo(W, [2, 8, 64]), "DTypeError"],
        [() => reshape(W, [64, 8]), `DTypeError: view: the tensor must be of f32`],
        [() => ops.embedding(W, ids), "DTypeError: embedding"],
        [() => ops.sum(W), "DTypeError"],
        [() => cast(x, type), "DTypeError: cast: dtype must be one of", "await quantize(x"],
        [() => tensor([[1, 2]], [1, 2], type), "DTypeError: tensor: dtype", "await quantize(x"],
        [() => W.set(new Float32Array(512)), "DTypeError: set: dtype"],
        [() => parameter(W), "DTypeError: requiresGrad: the tensor must be f32"],
      ]);
      const copy = W.clone();
      equal(await copy.rawBytes(), await W.rawBytes());
    }
  },
);

gpuTest("quantize refuses other types, other ranks and what is not finite", async () => {
  const refused = async (run: () => Promise<unknown>, error: string, part: string) => {
    let got: Error | null = null;
    await run().catch((e) => {
      got = e;
    });
    throwsLike(
      () => {
        throw got ?? new Error("nothing was thrown");
      },
      error,
      part,
    );
  };
  const x = random(2, 4, 1);
  await refused(
    () => quantize(x, "int4" as never),
    "DTypeError",
    "quantize: type must be int8 or nf4",
  );
  await refused(
    () => quantize(zeros([2, 4], "i32"), "nf4"),
    "DTypeError",
    "quantize: x must be f32",
  );
  await refused(() => quantize(zeros([2, 2, 2]), "nf4"), "ShapeError", "[rows, columns]");
  const bad = tensor([1, Infinity], [1, 2]);
  await refused(() => quantize(bad, "int8"), "ValueError", "quantize: the values must be finite");
  ok(!x.disposed);
});

runTests();
