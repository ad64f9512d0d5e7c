import { equal, not } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { gradcheck } from "../../src/autograd/gradcheck.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import {
  add,
  cast,
  dropout,
  linear,
  loraLinear,
  loraLinearEach,
  matmul,
  mul,
  sum,
} from "../../src/autograd/ops/index.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { fromBytes, parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { dequantizeValues, quantizeValues } from "../../src/tensor/quantized.ts";
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
import { dropoutMask } from "../reference/dropout.ts";
import * as reference from "../reference/lora_linear.ts";

const CASES = [1, 2, 4, 8, 16, 33, 64].map((r, i) => {
  const sides: [number, number][] = [
    [1, 7],
    [8, 33],
    [64, 65],
    [128, 129],
    [33, 128],
    [65, 64],
    [72, 96],
  ];
  return { r, N: [1, 3, 64, 7, 20, 5, 33][i]!, in: sides[i]![0], out: sides[i]![1] };
});

function transposeOf(W: ArrayLike<number>, out: number, inner: number): Float64Array {
  return Float64Array.from(
    { length: out * inner },
    (_, i) => W[(i % out) * inner + ((i / out) | 0)]!,
  );
}

for (const transposed of [false, true]) {
  for (const p of [0, 0.3]) {
    const how = `${transposed ? "transposed, " : ""}dropout ${p}`;
    gpuTest(`K1 K2 lora_linear ${how}: forward, dx, dA, dB against float64`, async () => {
      for (const n of CASES) {
        const W = randomValues(n.out * n.in, 11);
        const mask = p > 0 ? dropoutMask(n.N * n.in, p, [9, 0]) : null;
        await checkOp({
          name: `lora_linear ${n.N}×${n.in}×${n.out}, r ${n.r}`,
          run: (x, w, bias, a, b) => {
            manualSeed(9);
            return loraLinear(x!, w!, bias!, a!, b!, { scale: 2, dropout: p, transposed });
          },
          inputs: [
            { shape: [n.N, n.in] },
            {
              shape: transposed ? [n.in, n.out] : [n.out, n.in],
              values: transposed ? transposeOf(W, n.out, n.in) : W,
              grad: false,
            },
            { shape: [n.out], grad: false },
            { shape: [n.r, n.in] },
            { shape: [n.out, n.r] },
          ],
          forward: (x, _w, bias, a, b) => reference.loraLinear(x!, W, bias!, a!, b!, n, 2, mask),
          backward: (dy, x, _w, _bias, a, b) => {
            const [dx, dA, dB] = reference.loraLinearBackward(dy, x!, W, a!, b!, n, 2, mask);
            return [dx!, null, null, dA!, dB!];
          },
          K: n.in + n.out + n.r,
        });
      }
    });
  }
}

gpuTest("K1 lora_linear: every rank with every number of rows, over widths up to 512", async () => {
  const widths = [8, 33, 128, 384, 512];
  const ranks = [1, 2, 4, 8, 16, 33];
  let turn = 0;
  for (const N of [1, 3, 64, 100]) {
    for (const [i, inner] of widths.entries()) {
      for (const out of [widths[(i + turn) % 5]!, widths[(i + turn + 2) % 5]!]) {
        const n = { N, in: inner, out, r: ranks[turn++ % ranks.length]! };
        const sizes = [N * inner, out * inner, n.r * inner, out * n.r];
        const [x, W, A, B] = sizes.map((size, i) => randomValues(size, i + 1)) as Four;
        const t = [tensor(x, [N, inner]), tensor(W, [out, inner])] as const;
        const [a, b] = [tensor(A, [n.r, inner]), tensor(B, [out, n.r])];
        const got = await loraLinear(...t, null, a, b, { scale: 2 }).data();
        const zero = new Float64Array(out);
        const expected = reference.loraLinear(x, W, zero, A, B, n, 2, null);
        close(got, expected, 1e-5, `${N}×${inner}×${out}, r ${n.r}`);
      }
    }
  }
});

/** W [out, in] as a layer holds it, and the values that it then stands for. */
async function heldAs(
  dtype: "f32" | "f16" | "bf16" | "int8" | "nf4",
  W: Float64Array,
  [out, inner]: [number, number],
  transposed: boolean,
): Promise<{ weight: Tensor; values: ArrayLike<number> }> {
  const shape = transposed ? [inner, out] : [out, inner];
  const stored = transposed ? transposeOf(W, out, inner) : W;
  if (dtype === "int8" || dtype === "nf4") {
    const bytes = quantizeValues(Float32Array.from(stored), shape, dtype);
    return {
      weight: fromBytes(bytes, shape, dtype),
      values: dequantizeValues(bytes, shape, dtype),
    };
  }
  const weight = dtype === "f32" ? tensor(stored, shape) : cast(tensor(stored, shape), dtype);
  const values = await (dtype === "f32" ? weight : cast(weight, "f32")).data();
  return { weight, values: transposed ? transposeOf(values, inner, out) : values };
}

for (const dtype of ["f32", "f16", "bf16", "int8", "nf4"] as const) {
  gpuTest(
    `K1 lora_linear of few rows, ${dtype}: one dispatch without gradients, every rank`,
    async () => {
      let turn = 0;
      for (const transposed of dtype === "int8" || dtype === "nf4" ? [false] : [false, true]) {
        for (const r of [1, 2, 4, 8, 16, 33, 64]) {
          const N = 1 + (turn % 4);
          const [inner, out] = [[8, 64, 128, 132][turn++ % 4]!, [4, 64, 68, 352, 200][turn % 5]!];
          const sizes = [N * inner, out * inner, r * inner, out * r, out];
          const [x, W, A, B, c] = sizes.map((size, i) => randomValues(size, i + turn)) as Five;
          const { weight, values } = await heldAs(dtype, W, [out, inner], transposed);
          const [a, b, bias] = [tensor(A, [r, inner]), tensor(B, [out, r]), tensor(c, [out])];
          const input = tensor(x, [1, N, inner]);
          for (const given of [bias, null]) {
            const options = { scale: 1.5, transposed };
            let y!: Tensor;
            const { passes } = await theGpu().timeline(() => {
              y = noGrad(() => loraLinear(input, weight, given, a, b, options));
            });
            equal(
              passes.map((pass) => pass.label),
              ["lora_linear_few"],
            );
            equal(y.shape, [1, N, out]);
            const n = { N, in: inner, out, r };
            const zero = given ? c : new Float64Array(out);
            const expected = reference.loraLinear(x, values, zero, A, B, n, 1.5, null);
            close(await y.data(), expected, 1e-5, `${N}×${inner}×${out}, r ${r}`);
          }
        }
      }
    },
  );
}

type Five = [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
type Four = [Float64Array, Float64Array, Float64Array, Float64Array];

gpuTest(
  "K2 K4 lora_linear: gradients are differences of the very kernel, dropping alike",
  async () => {
    const sizes: [number, number][] = [
      [5, 12],
      [8, 12],
      [3, 12],
      [8, 3],
    ];
    const inputs = sizes.map(([m, n], i) => tensor(randomValues(m * n, i + 1), [m, n]));
    for (const dropout of [0, 0.3]) {
      await gradcheck((x, w, a, b) => {
        manualSeed(6);
        return loraLinear(x!, w!, null, a!, b!, { scale: 1.5, dropout });
      }, inputs);
    }
  },
);

gpuTest("K4 lora_linear: without dropout and in evaluation the bits are the same", async () => {
  const sizes: [number, number][] = [
    [9, 16],
    [12, 16],
    [4, 16],
    [12, 4],
  ];
  const [x, w, a, b] = sizes.map(([m, n], i) => tensor(randomValues(m * n, i + 1), [m, n]));
  const run = async (options: object) => loraLinear(x!, w!, null, a!, b!, options).data();
  const plain = await run({});
  equal(await run({ dropout: 0 }), plain);
  equal(await run({ dropout: 0.5, training: false }), plain);
  not.equal(await run({ dropout: 0.5 }), plain);
});

gpuTest("K3 lora_linear equals plain ops, also where nothing is frozen", async () => {
  const [N, inner, out, r] = [6, 12, 20, 4];
  const shapes = [[2, 3, inner], [out, inner], [out], [r, inner], [out, r]];
  const results: Float32Array[][] = [];
  for (const fused of [true, false]) {
    manualSeed(4);
    const t = shapes.map((shape, i) =>
      parameter(
        tensor(
          randomValues(
            shape.reduce((a, b) => a * b, 1),
            i + 1,
          ),
          shape,
        ),
      ),
    );
    const [x, W, bias, A, B] = t as [(typeof t)[0], ...typeof t] & typeof t;
    const plain = () => {
      const S = matmul(dropout(x!, 0.25), A!, { transposeB: true });
      return add(linear(x!, W!, bias!), mul(matmul(S, B!, { transposeB: true }), 0.5));
    };
    const y = fused ? loraLinear(x!, W!, bias!, A!, B!, { scale: 0.5, dropout: 0.25 }) : plain();
    backward(y, { gradient: tensor(randomValues(N * out, 8), y.shape) });
    const all = [y, ...t.map((p) => p.grad!)];
    results.push(await Promise.all(all.map(async (v) => (await v.data()) as Float32Array)));
    for (const p of t) {
      p.grad?.dispose();
      p.dispose();
    }
  }
  for (const [i, name] of ["y", "dx", "dW", "dbias", "dA", "dB"].entries()) {
    close(results[0]![i]!, results[1]![i]!, tolerance("f32", 32), name);
  }
});

gpuTest(
  "K2 K4 loraLinearEach: side by side in memory or not, each layer is as it is alone, to the bit",
  async () => {
    const outs = [40, 16, 16];
    const [small, middle] = [[32, 24, 8] as const, [96, 128, 4] as const]; // of the middle three are worth a subgroup kernel, one is not
    for (const [isPacked, dropout, [N, inner, r]] of [
      [false, 0.25, small],
      [true, 0, small],
      [true, 0.25, small],
      [true, 0, middle],
      [true, 0.25, middle],
    ] as const) {
      const x = parameter(tensor(randomValues(N * inner, 1), [N, inner]));
      const layers = outs.map((out, i) => ({
        ...{ scale: 2, dropout, bias: i === 1 ? tensor(randomValues(out, 2), [out]) : null },
        weight: tensor(randomValues(out * inner, 3 + i), [out, inner]),
        a: parameter(tensor(randomValues(r * inner, 6 + i), [r, inner])),
        b: parameter(tensor(randomValues(out * r, 9 + i), [out, r])),
      }));
      const leaves = [x, ...layers.flatMap(({ a, b }) => [a, b])];
      const optimizer = isPacked ? new AdamW(leaves.slice(1), { lr: 0.1 }) : null;
      const results: Float32Array[][] = [];
      for (const together of [true, false]) {
        manualSeed(4);
        optimizer?.zeroGrad();
        const ys = together
          ? loraLinearEach(x, layers)
          : layers.map(({ weight, bias, a, b, ...options }) =>
              loraLinear(x, weight, bias, a, b, options),
            );
        // The last result is not used: its layer has no gradient.
        const used = ys.slice(0, 2).map((y, i) => sum(mul(y, add(y, i))));
        backward(add(used[0]!, used[1]!));
        const all = [...ys, ...leaves.map((t) => t.grad ?? zeros(t.shape))];
        results.push(await Promise.all(all.map(async (t) => (await t.data()) as Float32Array)));
        for (const t of leaves) {
          if (!optimizer || t === x) t.grad = null;
        }
      }
      for (const [i, got] of results[0]!.entries()) {
        const what = `${i}, packed ${isPacked}, ${dropout}`;
        if (i !== outs.length) equal(got, results[1]![i]!, what);
        else close(got, results[1]![i]!, tolerance("f32", 64), what); // dx, which is a sum over the layers
      }
      optimizer?.dispose();
    }
    equal(loraLinearEach(zeros([2, 8]), []), []);
  },
);

gpuTest("lora_linear: with B = 0 it is the linear layer, bit for bit", async () => {
  for (const transposed of [false, true]) {
    for (const [N, inner, out] of [
      [5, 8, 12],
      [22, 32, 16], // narrower than long
      [33, 7, 5],
      [64, 128, 96],
    ] as [number, number, number][]) {
      const random = (seed: number, ...shape: [number, number]) =>
        tensor(randomValues(shape[0] * shape[1], seed), shape);
      const x = random(1, N, inner);
      const W = transposed ? random(2, inner, out) : random(2, out, inner);
      const [A, B] = [random(3, 2, inner), zeros([out, 2])];
      const base = await linear(x, W, null, { transposed }).data();
      for (const p of [0, 0.4]) {
        const y = loraLinear(x, W, null, A, B, { scale: 3, dropout: p, transposed });
        equal(await y.data(), base, `${N}×${inner}×${out}, dropout ${p}`);
      }
    }
  }
});

gpuTest("lora_linear: errors", () => {
  const t = (...shape: number[]) => zeros(shape);
  const call = (x = t(2, 8), W = t(12, 8), A = t(4, 8), B = t(12, 4), options = {}) =>
    loraLinear(x, W, null, A, B, options);
  throwsLike(
    () => call(t(2, 7)),
    "ShapeError",
    "lora_linear: x must be [..., in = 8]",
    "got [2, 7]",
  );
  throwsLike(
    () => call(t(2, 8), t(12, 8), t(4, 7)),
    "ShapeError",
    "lora_linear: a must be [r, in] = [4, 8]",
  );
  throwsLike(
    () => call(t(2, 8), t(12, 8), t(0, 8)),
    "ShapeError",
    "lora_linear: a must be [r, in], r > 0",
  );
  throwsLike(
    () => call(t(2, 8), t(12, 8), t(4, 8), t(4, 12)),
    "ShapeError",
    "lora_linear: b must be [out, r]",
  );
  throwsLike(() => call(zeros([2, 8], "i32")), "DTypeError", "lora_linear: x must be f32, got i32");
  throwsLike(
    () => call(t(2, 8), t(12, 8), t(4, 8), t(12, 4), { dropout: 1 }),
    "ValueError",
    "lora_linear: dropout",
  );
});

runTests();
