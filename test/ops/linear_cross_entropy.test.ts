import { is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast } from "../../src/autograd/ops/cast.ts";
import { crossEntropy } from "../../src/autograd/ops/cross_entropy.ts";
import { linear } from "../../src/autograd/ops/linear.ts";
import {
  type LinearCrossEntropyOptions,
  linearCrossEntropy,
} from "../../src/autograd/ops/linear_cross_entropy.ts";
import { reshape } from "../../src/autograd/ops/reshape.ts";
import { linearCrossEntropyChunk } from "../../src/kernels/linear_cross_entropy.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
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
import * as reference from "../reference/linear_cross_entropy.ts";

/** Every third one is ignored. */
function someTargets(N: number, V: number): Int32Array {
  return Int32Array.from({ length: N }, (_, i) => (i % 3 === 1 ? -100 : (i * 7 + 3) % V));
}

/** Rows, width, classes, and how they are cut: whole, in chunks of rows, in blocks of columns, ragged. */
const CASES: [N: number, d: number, V: number, options: LinearCrossEntropyOptions][] = [
  [1, 1, 1, {}],
  [2, 3, 5, {}],
  [17, 8, 64, {}],
  [64, 32, 128, {}],
  [130, 12, 257, { rows: 64 }],
  [200, 16, 512, { rows: 128, columns: 128 }],
  [65, 7, 333, { rows: 64, columns: 256 }],
  [96, 20, 1025, { rows: 64, columns: 384 }],
];

for (const frozen of [true, false]) {
  const what = frozen ? "frozen weight" : "trained weight and bias";
  gpuTest(`linear_cross_entropy: ${what} against float64, some targets ignored`, async () => {
    for (const [N, d, V, options] of CASES) {
      const sizes = { N, d, V };
      const targets = someTargets(N, V);
      await checkOp({
        name: `linear_cross_entropy [${N}, ${d}] · [${V}, ${d}], ${what}`,
        run: (x, W, b) => linearCrossEntropy(x!, W!, frozen ? null : b!, tensor(targets), options),
        inputs: [
          { shape: [N, d], values: randomValues(N * d, 5, 2) },
          { shape: [V, d], grad: !frozen },
          { shape: [V], grad: !frozen },
        ],
        forward: (x, W, b) =>
          reference.linearCrossEntropy(x!, W!, frozen ? null : b!, targets, sizes),
        backward: (dy, x, W, b) => {
          const bias = frozen ? null : b!;
          const g = reference.linearCrossEntropyBackward(dy, x!, W!, bias, targets, sizes);
          return frozen ? [g.dx, null, null] : [g.dx, g.dW, g.dbias];
        },
        K: V + d,
      });
    }
  });
}

/** Loss and gradients of both ways to compute them. */
async function results(
  loss: (x: Tensor, W: Tensor, b: Tensor) => Tensor,
  inputs: readonly [Float64Array, Float64Array, Float64Array],
  shapes: readonly [number[], number[], number[]],
): Promise<ArrayLike<number>[]> {
  const leaves = inputs.map((v, i) => parameter(tensor(v, shapes[i]!)));
  const y = loss(leaves[0]!, leaves[1]!, leaves[2]!);
  backward(y);
  const all = [await y.data(), ...(await Promise.all(leaves.map((l) => l.grad!.data())))];
  for (const leaf of leaves) {
    leaf.grad!.dispose();
    leaf.dispose();
  }
  return all;
}

gpuTest(
  "linear_cross_entropy: equals crossEntropy(linear()), mean and sum, and its plain path",
  async () => {
    const [B, T, d, V] = [2, 75, 24, 390];
    const shapes = [[B, T, d], [V, d], [V]] as [number[], number[], number[]];
    const inputs = shapes.map((s, i) =>
      randomValues(
        s.reduce((a, b) => a * b, 1),
        3 + i,
        1.5,
      ),
    );
    const ids = someTargets(B * T, V);
    for (const reduction of ["mean", "sum"] as const) {
      const fused = (x: Tensor, W: Tensor, b: Tensor) =>
        linearCrossEntropy(x, W, b, tensor(ids, [B, T]), { reduction, rows: 64, columns: 128 });
      const whole = (x: Tensor, W: Tensor, b: Tensor) =>
        crossEntropy(reshape(linear(x, W, b), [B * T, V]), tensor(ids), { reduction });
      const given = inputs as [Float64Array, Float64Array, Float64Array];
      const got = await results(fused, given, shapes);
      const expected = await results(whole, given, shapes);
      setKernelPath("plain");
      const plain = await results(fused, given, shapes).finally(() => setKernelPath("auto"));
      got.forEach((g, i) => {
        close(g, expected[i]!, tolerance("f32", V), `${reduction} ${i}`);
        close(plain[i]!, expected[i]!, tolerance("f32", V), `${reduction} ${i}, plain path`);
      });
    }
  },
);

gpuTest(
  "linear_cross_entropy: capped logits against float64, and as the plain path has them",
  async () => {
    for (const [N, d, V, cap] of [
      [3, 4, 6, 2],
      [70, 16, 259, 5],
    ] as [number, number, number, number][]) {
      const sizes = { N, d, V, cap };
      const targets = someTargets(N, V);
      const check = () =>
        checkOp({
          name: `linear_cross_entropy capped at ${cap}`,
          run: (x, W, b) =>
            linearCrossEntropy(x!, W!, b!, tensor(targets), { softcap: cap, rows: 64 }),
          inputs: [
            { shape: [N, d], values: randomValues(N * d, 5, 4) },
            { shape: [V, d], values: randomValues(V * d, 6, 4) },
            { shape: [V] },
          ],
          forward: (x, W, b) => reference.linearCrossEntropy(x!, W!, b!, targets, sizes),
          backward: (dy, x, W, b) => {
            const g = reference.linearCrossEntropyBackward(dy, x!, W!, b!, targets, sizes);
            return [g.dx, g.dW, g.dbias];
          },
          K: V + d,
        });
      await check();
      setKernelPath("plain");
      await check().finally(() => setKernelPath("auto"));
    }
  },
);

/** Rows of a beside those of b. */
function beside(a: ArrayLike<number>, b: ArrayLike<number>, rows: number): Float64Array {
  const [m, n] = [a.length / rows, b.length / rows];
  return Float64Array.from({ length: rows * (m + n) }, (_, i) => {
    const [row, column] = [Math.floor(i / (m + n)), i % (m + n)];
    return column < m ? a[row * m + column]! : b[row * n + column - m]!;
  });
}

/** Columns from … to − 1 of a matrix. */
function columnsOf(a: Float64Array, rows: number, from: number, to: number): Float64Array {
  const width = a.length / rows;
  return a.filter((_, i) => i % width >= from && i % width < to);
}

for (const softcap of [0, 3]) {
  gpuTest(
    `linear_cross_entropy: a low-rank update, capped at ${softcap}, against float64`,
    async () => {
      for (const [N, d, V, r, options] of [
        [3, 4, 6, 1, {}],
        [70, 16, 259, 5, { rows: 64, columns: 128 }],
        [130, 12, 384, 16, { rows: 64, columns: 256 }],
        [65, 8, 200, 64, {}],
      ] as [number, number, number, number, LinearCrossEntropyOptions][]) {
        // x·Wᵀ + s·bᵀ = [x s]·[W b]ᵀ
        const sizes = { N, d: d + r, V, cap: softcap };
        const targets = someTargets(N, V);
        const check = () =>
          checkOp({
            name: `linear_cross_entropy [${N}, ${d}] · [${V}, ${d}] and rank ${r}`,
            run: (x, W, bias, s, b) => {
              const update = { s: s!, b: b! };
              const all = { ...options, softcap, update };
              return linearCrossEntropy(x!, W!, bias!, tensor(targets), all);
            },
            inputs: [
              { shape: [N, d], values: randomValues(N * d, 5, 2) },
              { shape: [V, d], grad: false },
              { shape: [V] },
              { shape: [N, r] },
              { shape: [V, r] },
            ],
            forward: (x, W, bias, s, b) =>
              reference.linearCrossEntropy(
                beside(x!, s!, N),
                beside(W!, b!, V),
                bias!,
                targets,
                sizes,
              ),
            backward: (dy, x, W, bias, s, b) => {
              const [both, wide] = [beside(x!, s!, N), beside(W!, b!, V)];
              const g = reference.linearCrossEntropyBackward(dy, both, wide, bias!, targets, sizes);
              const [dx, ds] = [columnsOf(g.dx, N, 0, d), columnsOf(g.dx, N, d, d + r)];
              return [dx, null, g.dbias, ds, columnsOf(g.dW, V, d, d + r)];
            },
            K: V + d + r,
          });
        await check();
        setKernelPath("plain");
        await check().finally(() => setKernelPath("auto"));
      }
    },
  );
}

gpuTest("linear_cross_entropy: f16 and bf16 heads give what their values in f32 give", async () => {
  const [N, d, V] = [70, 32, 200];
  const targets = tensor(someTargets(N, V));
  const x = parameter(tensor(randomValues(N * d, 2), [N, d]));
  for (const dtype of ["f16", "bf16"] as const) {
    const half = cast(tensor(randomValues(V * d, 9), [V, d]), dtype);
    const gradients: ArrayLike<number>[] = [];
    for (const W of [half, cast(half, "f32")]) {
      const loss = linearCrossEntropy(x, W, null, targets, { columns: 128 });
      backward(loss);
      gradients.push(await loss.data(), await x.grad!.data());
      x.grad!.dispose();
      x.grad = null;
    }
    close(gradients[0]!, gradients[2]!, tolerance("f32", d), `${dtype} loss`);
    close(gradients[1]!, gradients[3]!, tolerance("f32", V), `${dtype} dx`);
  }
  x.dispose();
});

gpuTest("linear_cross_entropy: far logits stay finite; nothing counted gives 0", async () => {
  const [N, d, V] = [2, 1, 3];
  const sizes = { N, d, V };
  const targets = [0, 2];
  await checkOp({
    name: "linear_cross_entropy of logits of size 1e4",
    run: (x, W) => linearCrossEntropy(x!, W!, null, tensor(Int32Array.from(targets))),
    inputs: [
      { shape: [N, d], values: [1e2, -1e2] },
      { shape: [V, d], values: [1e2, 0, -1e2], grad: false },
    ],
    forward: (x, W) => reference.linearCrossEntropy(x!, W!, null, targets, sizes),
    backward: (dy, x, W) => [
      reference.linearCrossEntropyBackward(dy, x!, W!, null, targets, sizes).dx,
      null,
    ],
  });
  const x = parameter(tensor(randomValues(N * d, 1), [N, d]));
  const loss = linearCrossEntropy(x, zeros([V, d]), null, tensor(Int32Array.of(7, 7)), {
    ignoreIndex: 7,
  });
  backward(loss);
  is(await loss.item(), 0);
  close(await x.grad!.data(), [0, 0], 0, "gradient");
  x.grad!.dispose();
  x.dispose();
});

gpuTest(
  "linear_cross_entropy: a kept graph gives the same gradient twice, and scales with dy",
  async () => {
    const [N, d, V] = [9, 4, 11];
    const x = parameter(tensor(randomValues(N * d, 1), [N, d]));
    const W = parameter(tensor(randomValues(V * d, 2), [V, d]));
    const loss = linearCrossEntropy(x, W, null, tensor(someTargets(N, V)));
    backward(loss, { retainGraph: true });
    const once = [await x.grad!.data(), await W.grad!.data()];
    backward(loss, { gradient: tensor([3], []) });
    const four = [await x.grad!.data(), await W.grad!.data()];
    once.forEach((g, i) => {
      close(
        four[i]!,
        Array.from(g, (v) => 4 * v),
        1e-6,
        `input ${i + 1}`,
      );
    });
    throwsLike(() => backward(loss), "GradError", "linear_cross_entropy");
    for (const leaf of [x, W]) {
      leaf.grad!.dispose();
      leaf.dispose();
    }
  },
);

gpuTest(
  "linear_cross_entropy: memory is that of a chunk, and a frozen head costs no gradient",
  async () => {
    const [N, d, V] = [1024, 32, 2048];
    const logitsBytes = 4 * N * V;
    const xBytes = 4 * N * d;
    const gpu = theGpu();
    const x = parameter(tensor(randomValues(N * d, 1), [N, d]));
    const W = tensor(randomValues(V * d, 2), [V, d]);
    const targets = tensor(someTargets(N, V));
    const peakOf = (run: () => void) => {
      gpu.resetPeak();
      const before = gpu.stats().bytesLive;
      run();
      return gpu.stats().bytesPeak - before;
    };
    const { rows, columns } = linearCrossEntropyChunk(N, d, V, W.bytes);
    is(rows, 64, "as many logits as x has elements, but a step of rows at least");
    is(columns, V);
    const chunkBytes = 4 * rows * V;
    const loss: Tensor[] = [];
    const forward = peakOf(() => {
      loss.push(linearCrossEntropy(x, W, null, targets));
    });
    ok(forward < xBytes + 1.5 * chunkBytes, `forward: ${forward} of ${xBytes} and ${chunkBytes}`);
    ok(forward < logitsBytes / 4);
    const kept = peakOf(() => backward(loss[0]!));
    ok(kept < xBytes / 8, `backward writes dx where forward left it: ${kept}`);
    const evaluated = peakOf(() => {
      noGrad(() => linearCrossEntropy(x, W, null, targets));
    });
    ok(evaluated < 1.5 * chunkBytes, `without a gradient: ${evaluated}`);
    x.grad!.dispose();
    x.dispose();
  },
);

gpuTest("linear_cross_entropy: chunks respect the device's bindings", () => {
  const limit = theGpu().limits.maxStorageBufferBindingSize;
  for (const [N, d, V, bytes] of [
    [8192, 768, 50257, 2],
    [4096, 64, 2 ** 20, 4],
    [64, 8, 2 ** 24, 2],
  ] as [number, number, number, number][]) {
    const { rows, columns } = linearCrossEntropyChunk(N, d, V, bytes * V * d);
    is(rows % 64, 0);
    ok(columns === V || columns % 128 === 0);
    ok(columns * Math.min(rows, N) * 4 <= limit, "logits");
    ok(columns * d * bytes <= limit, "weight");
    ok(rows === 64 || rows * V <= N * d, "no more logits than x has elements");
  }
});

gpuTest("linear_cross_entropy: errors come before anything is allocated", () => {
  const [x, W, b] = [zeros([2, 4]), zeros([6, 4]), zeros([6])];
  const ids = tensor(Int32Array.of(0, 1));
  const far = tensor(Int32Array.of(0, 6));
  const negative = tensor(Int32Array.of(-1, -100));
  const [half, wide, none] = [zeros([2, 4], "f16"), zeros([2, 5]), zeros([0, 4])];
  const [s, u, flat] = [zeros([2, 3]), zeros([6, 3]), zeros([6, 0])];
  const before = theGpu().stats().buffersLive;
  const refused = (call: () => unknown, name: string, text: string) =>
    throwsLike(call, name, `linear_cross_entropy: ${text}`);
  const run = linearCrossEntropy;
  refused(() => run(half, W, null, ids), "DTypeError", "x must be f32, got f16");
  refused(() => run(x, ids, null, ids), "DTypeError", "weight must be f32 or f16 or bf16");
  refused(() => run(x, W, half, ids), "DTypeError", "bias must be f32");
  refused(() => run(x, W, null, x), "DTypeError", "targets must be i32 or u32");
  refused(() => run(wide, W, null, ids), "ShapeError", "x must be [..., d = 4]");
  refused(() => run(x, b, null, ids), "ShapeError", "weight must be [V, d], got [6]");
  refused(
    () => run(x, none, null, ids),
    "ShapeError",
    "weight must be [V, d] with both at least 1",
  );
  refused(() => run(x, W, x, ids), "ShapeError", "bias must be [V] = [6], got [2, 4]");
  refused(() => run(W, W, null, ids), "ShapeError", "targets must be [...] = [6], got [2]");
  refused(() => run(x, W, null, far), "ValueError", "targets must be in [0, 5], got 6");
  refused(() => run(x, W, null, negative), "ValueError", "targets must be in [0, 5], got -1");
  const odd = (s: Tensor, b: Tensor, name: string, text: string) =>
    refused(() => run(x, W, null, ids, { update: { s, b } }), name, text);
  odd(half, u, "DTypeError", "s must be f32, got f16");
  odd(s, half, "DTypeError", "b must be f32, got f16");
  odd(s, b, "ShapeError", "b must be [V, r], got [6]");
  odd(s, s, "ShapeError", "b must be [V, r ≥ 1] = [6, 3], got [2, 3]");
  odd(s, flat, "ShapeError", "b must be [V, r ≥ 1] = [6, 1], got [6, 0]");
  odd(x, u, "ShapeError", "s must be [..., r] = [2, 3], got [2, 4]");
  const bad = (options: LinearCrossEntropyOptions, text: string) =>
    refused(() => run(x, W, null, ids, options), "ValueError", text);
  bad({ rows: 63 }, "rows must be a positive multiple of 64, got 63");
  bad({ softcap: -1 }, "softcap must be a positive number, or 0 for none, got -1");
  bad({ softcap: Number.NaN }, "softcap must be a positive number, or 0 for none, got NaN");
  bad({ columns: 64 }, "columns must be a positive multiple of 128, got 64");
  is(theGpu().stats().buffersLive, before);
});

runTests();
