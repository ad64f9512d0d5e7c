import { equal, is } from "uvu/assert";
import { linear } from "../../src/autograd/ops/linear.ts";
import { matmul } from "../../src/autograd/ops/matmul.ts";
import { matmulForward } from "../../src/kernels/matmul.ts";
import {
  chooseVariant,
  forceMatmulVariant,
  matmulVariants,
} from "../../src/kernels/matmul_variant.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import {
  checkOp,
  close,
  gpuTest,
  randomValues,
  runTests,
  theGpu,
  throwsLike,
  tolerance,
} from "../gpu.ts";
import { dropoutMask } from "../reference/dropout.ts";
import * as reference from "../reference/matmul.ts";

const LAYOUTS = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;

function layoutName([transposeA, transposeB]: readonly [boolean, boolean]): string {
  return `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
}

const SIZES = [1, 3, 4, 8, 15, 16, 17, 31, 33, 64, 65, 129];

for (const path of ["plain", "auto"] as const) {
  for (const [transposeA, transposeB] of LAYOUTS) {
    const options = { transposeA, transposeB };
    const layout = layoutName([transposeA, transposeB]);
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

// Each shape makes a kernel of its own, which a software device compiles for a second: so they are few.
// Tiles with aligned edges; odd everything; tiles of few rows.
const ALIGNED = [36, 20, 44] as const;
const ODD = [33, 31, 65] as const;
const LOW = [12, 20, 44] as const;
const LOW_ODD = [7, 13, 33] as const;
const ONE_ROW = [1, 129, 40] as const;

interface Golden {
  transposeA: boolean;
  transposeB: boolean;
  transposeY?: boolean;
  /** Depth of the tail; 0: none. */
  R?: number;
  transposeQ?: boolean;
  p?: number;
  dtype?: "f32" | "f16" | "bf16";
  into?: boolean;
}

/** Compares one product with float64: all that the kernels can do, in one formula. */
async function checkProduct(name: string, sizes: readonly number[], g: Golden) {
  const [M, K, N] = sizes as [number, number, number];
  const { transposeA, transposeB, transposeY = false, R = 0, transposeQ = false, p = 0 } = g;
  const [aShape, bShape] = [transposeA ? [K, M] : [M, K], transposeB ? [N, K] : [K, N]];
  const qShape = transposeQ ? [N, R] : [R, N];
  const few = (v: number) => (g.dtype ? Math.round(v * 16) / 16 : v); // exact in every type
  const a = randomValues(M * K, 1);
  const b = randomValues(K * N, 2).map(few);
  const [P, Q, bias, y0] = [M * R, R * N, N, M * N].map((n, i) => randomValues(n, i + 3));
  const key = [5, 6] as const;
  const mask = p > 0 ? dropoutMask(R > 0 ? M * N : K * N, p, key) : null;
  const kept = R === 0 && mask ? b.map((v, i) => v * mask[i]!) : b;
  const product = reference.matmul(a, aShape, kept, bShape, g).data;
  const tail =
    R > 0 ? reference.matmul(P!, [M, R], Q!, qShape, { transposeB: transposeQ }).data : null;
  const alpha = R > 0 ? 1 : 0.5;
  const expected = product.map(
    (v, i) =>
      alpha * v +
      bias![i % N]! +
      (tail?.[i] ?? 0) * (R > 0 ? (mask?.[i] ?? 1) : 1) +
      (g.into ? y0![i]! : 0),
  );
  const turned = (values: Float64Array) =>
    transposeY ? values.map((_, i) => values[(i % M) * N + Math.floor(i / M)]!) : values;
  const yShape = transposeY ? [N, M] : [M, N];
  const y = matmulForward(tensor(a, aShape), tensor(b, bShape, g.dtype ?? "f32"), {
    ...{ transposeA, transposeB, transposeY, alpha, bias: tensor(bias!, [N]) },
    ...(R > 0 ? { tail: { p: tensor(P!, [M, R]), q: tensor(Q!, qShape), transposeQ } } : {}),
    ...(p > 0 ? { drop: { p, key } } : {}),
    ...(g.into ? { into: tensor(turned(y0!), yShape) } : {}),
  });
  close(await y.data(), turned(expected), tolerance("f32", K + R), `${name} ${M}×${K}×${N}`);
}

for (const variant of theGpu() ? matmulVariants() : []) {
  gpuTest(
    `K1 K6 matmul ${variant}: layouts, tails, dropping, storing against float64`,
    async () => {
      const NN = { transposeA: false, transposeB: false };
      const NT = { ...NN, transposeB: true };
      const TN = { ...NN, transposeA: true };
      const check = (what: string, sizes: readonly number[], g: Golden) =>
        checkProduct(`${variant} ${what}`, sizes, g);
      forceMatmulVariant(variant);
      try {
        for (const [transposeA, transposeB] of LAYOUTS) {
          await check(layoutName([transposeA, transposeB]), ALIGNED, { transposeA, transposeB });
        }
        for (const layout of [NT, TN]) await check("odd", ODD, layout);
        await check("into", ALIGNED, { ...NT, into: true });
        await check("one row", ONE_ROW, NT);
        for (const sizes of [LOW, LOW_ODD]) {
          await check("turned", sizes, { ...NT, transposeY: true, into: true, p: 0.3 });
        }
        await check("drop TN", LOW, { ...TN, p: 0.6 });
        for (const rows of [4, 7, 16]) {
          await check("few rows TN", [rows, rows % 4 === 0 ? 20 : 13, 36], TN);
        }
        await check("tail TN", LOW, { ...TN, R: 4, transposeQ: true });
        for (const R of [4, 16]) {
          await check(`tail ${R}`, LOW, { ...NT, R, transposeQ: true });
          await check(`tail ${R} NN`, ALIGNED, { ...NN, R, p: 0.3 });
        }
        for (const R of [1, 33]) {
          await check(`tail ${R}`, LOW_ODD, { ...NT, R, transposeQ: true });
          await check(`tail ${R} NN`, LOW_ODD, { ...NN, R, p: 0.3 });
        }
        await check("f16", LOW, { ...NT, dtype: "f16" });
        await check("bf16", LOW_ODD, { ...NN, dtype: "bf16" });
      } finally {
        forceMatmulVariant(null);
      }
    },
  );
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

gpuTest(
  "matmul: sums longer than lavapipe's loops, also where each round draws numbers",
  async () => {
    const check = async (M: number, K: number, N: number, p: number) => {
      const [a, b] = [randomValues(M * K, 1), randomValues(K * N, 2)];
      const drop = p > 0 ? { drop: { p, key: [1, 2] as const } } : {};
      const y = matmulForward(tensor(a, [M, K]), tensor(b, [K, N]), drop);
      const mask = p > 0 ? dropoutMask(K * N, p, [1, 2]) : null;
      const kept = b.map((v, i) => v * (mask?.[i] ?? 1));
      const expected = reference.matmul(a, [M, K], kept, [K, N]).data;
      close(await y.data(), expected, tolerance("f32", K), `${M}×${K}×${N}`);
    };
    await check(1, 66_000, 1, 0);
    await check(4, 250_000, 4, 0);
    await check(3, 12_000, 32, 0.5);
    await check(16, 12_000, 64, 0.5);
    await checkProduct("a tail beside a long sum", [4, 250_000, 4], {
      ...{ transposeA: false, transposeB: false, R: 4 },
    });
  },
);

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

gpuTest(
  "a transposed result, for which there is but the naive kernel else, gets a subgroup's sooner",
  () => {
    const lanes = matmulVariants().find((variant) => variant.startsWith("subgroup"));
    if (!lanes || theGpu().adapterClass === "gpu") return;
    const layout = { transposeA: false, transposeB: true, dtype: "f32", aligned: true, count: 1 };
    const variantOf = (N: number, transposeY: boolean) =>
      chooseVariant({ ...layout, M: 16, N, K: 128, transposeY }).variant;
    equal([variantOf(96, false), variantOf(96, true)], ["register", lanes]);
    equal([variantOf(256, false), variantOf(16, true)], [lanes, "naive"]);
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
    "linear: bias must be [out] = [4], got [3]",
  );
});

runTests();
