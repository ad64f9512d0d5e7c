import { is } from "uvu/assert";
import { linear } from "../../src/autograd/ops/linear.ts";
import { matmul } from "../../src/autograd/ops/matmul.ts";
import { matmulForward } from "../../src/kernels/matmul.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { checkOp, close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/matmul.ts";

const SIZES = [1, 3, 4, 8, 15, 16, 17, 31, 33, 64, 65, 129];

for (const path of ["plain", "fast"] as const) {
  for (const [transposeA, transposeB] of [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ] as const) {
    const options = { transposeA, transposeB };
    const layout = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
    gpuTest(`matmul ${path} ${layout}: forward and both gradients against float64`, async () => {
      setKernelPath(path);
      for (const [i, M] of SIZES.entries()) {
        const K = SIZES[(i * 5 + 3) % SIZES.length]!;
        const N = SIZES[(i * 7 + 1) % SIZES.length]!;
        for (const [m, k, n] of [
          [M, K, N],
          [4 * (1 + (M >> 2)), 4 * (1 + (K >> 2)), 4 * (1 + (N >> 2))],
        ] as [number, number, number][]) {
          const aShape = transposeA ? [k, m] : [m, k];
          const bShape = transposeB ? [n, k] : [k, n];
          await checkOp({
            name: `matmul ${layout} ${m}×${k}×${n}`,
            run: (a, b) => matmul(a!, b!, options),
            inputs: [{ shape: aShape }, { shape: bShape }],
            forward: (a, b) => reference.matmul(a!, aShape, b!, bShape, options).data,
            backward: (dy, a, b) => reference.matmulBackward(dy, a!, aShape, b!, bShape, options),
            K: Math.max(k, m, n),
          });
        }
      }
      setKernelPath("auto");
    });
  }
}

gpuTest("matmul: batches, and one matrix for all of them", async () => {
  for (const [aShape, bShape] of [
    [
      [3, 5, 4],
      [3, 4, 8],
    ],
    [
      [2, 3, 4, 8],
      [8, 12],
    ],
    [
      [4, 8],
      [2, 3, 8, 12],
    ],
    [
      [0, 4, 8],
      [8, 4],
    ],
    [
      [2, 0, 8],
      [8, 4],
    ],
  ] as [number[], number[]][]) {
    await checkOp({
      name: `matmul [${aShape}] · [${bShape}]`,
      run: (a, b) => matmul(a!, b!),
      inputs: [{ shape: aShape }, { shape: bShape }],
      forward: (a, b) => reference.matmul(a!, aShape, b!, bShape).data,
      backward: (dy, a, b) => reference.matmulBackward(dy, a!, aShape, b!, bShape),
      K: 64,
    });
  }
});

gpuTest("matmul: alpha, bias, into, and K = 0", async () => {
  for (const N of [5, 8]) {
    const [M, K] = [3, 12];
    const [a, b, bias, y] = [M * K, K * N, N, M * N].map((n, i) => randomValues(n, i + 1));
    const t = [tensor(a!, [M, K]), tensor(b!, [K, N]), tensor(bias!, [N]), tensor(y!, [M, N])];
    const plain = reference.matmul(a!, [M, K], b!, [K, N]).data;
    const got = matmulForward(t[0]!, t[1]!, { alpha: 0.5, bias: t[2]!, into: t[3]! });
    is(got, t[3]);
    const expected = plain.map((v, i) => y![i]! + 0.5 * v + bias![i % N]!);
    close(await got.data(), expected, tolerance("f32", K), `into, N = ${N}`);
    const empty = matmulForward(zeros([M, 0]), zeros([0, N]), { bias: t[2]! });
    close(
      await empty.data(),
      Array.from({ length: M * N }, (_, i) => bias![i % N]!),
      0,
      "K = 0",
    );
  }
});

gpuTest("matmul: a sum longer than lavapipe's loops", async () => {
  const K = 66_000;
  for (const [M, N] of [
    [1, 1],
    [4, 4],
  ] as [number, number][]) {
    const [a, b] = [randomValues(M * K, 1), randomValues(K * N, 2)];
    const y = matmulForward(tensor(a, [M, K]), tensor(b, [K, N]));
    const expected = reference.matmul(a, [M, K], b, [K, N]).data;
    close(await y.data(), expected, tolerance("f32", K), `${M}×${K}×${N}`);
  }
});

gpuTest(
  "linear: frozen f16 and bf16 weights, both ways stored, gradients of x and bias",
  async () => {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const transposed of [false, true]) {
        for (const [inner, out] of [
          [3, 5],
          [8, 12],
          [7, 4],
          [64, 33],
        ] as [number, number][]) {
          // Few bits, so that every type holds the numbers exactly.
          const values = randomValues(inner * out, 4).map((v) => Math.round(v * 16) / 16);
          const shape = transposed ? [inner, out] : [out, inner];
          const options = { transposeB: !transposed };
          await checkOp({
            name: `linear ${dtype} ${inner} to ${out}${transposed ? ", transposed" : ""}`,
            run: (x, weight, bias) => linear(x!, weight!, bias!, { transposed }),
            inputs: [
              { shape: [2, 5, inner] },
              { shape, values, dtype, grad: dtype === "f32" },
              { shape: [out] },
            ],
            forward: (x, weight, bias) =>
              reference
                .matmul(x!, [10, inner], weight!, shape, options)
                .data.map((v, i) => v + bias![i % out]!),
            backward: (dy, x, weight) => {
              const [dx, dw] = reference.matmulBackward(
                dy,
                x!,
                [10, inner],
                weight!,
                shape,
                options,
              );
              const db = new Float64Array(out);
              dy.forEach((v, i) => {
                db[i % out]! += v;
              });
              return [dx!, dtype === "f32" ? dw! : null, db];
            },
            K: 64,
          });
        }
      }
    }
  },
);

gpuTest("matmul, linear: errors", () => {
  const a = zeros([2, 3]);
  throwsLike(
    () => matmul(a, zeros([4, 5])),
    "ShapeError",
    "matmul: b must be [..., K = 3, N]",
    "[4, 5]",
  );
  throwsLike(() => matmul(a, zeros([3])), "ShapeError", "matmul: b must be [..., K, N], got [3]");
  throwsLike(() => matmul(zeros([2, 3], "i32"), a), "DTypeError", "matmul: a must be f32, got i32");
  throwsLike(() => matmul(zeros([2, 2, 3]), zeros([3, 3, 4])), "ShapeError", "matmul: b");
  throwsLike(() => linear(a, zeros([4, 5])), "ShapeError", "linear: x must be [..., in = 5]");
  throwsLike(
    () => linear(a, zeros([4, 3]), zeros([3])),
    "ShapeError",
    "matmul: bias must be [N] = [4]",
  );
});

runTests();
