import { equal, is } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { loraMixed } from "../../src/autograd/ops/index.ts";
import { dropoutForward } from "../../src/kernels/dropout.ts";
import type { MixedPlan } from "../../src/kernels/lora_mixed.ts";
import { MixedStack } from "../../src/kernels/lora_mixed_stack.ts";
import { ones, parameter, tensor, zeros } from "../../src/tensor/create.ts";
import type { Key } from "../../src/tensor/philox.ts";
import { close, gpuTest, randomValues, runTests, theGpu, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/lora_mixed.ts";

interface Sizes {
  T: number;
  in: number;
  out: number;
  ranks: number[];
  rows: number[][];
}

const CASES: readonly Sizes[] = [
  { T: 1, in: 4, out: 4, ranks: [1], rows: [[0]] },
  { T: 3, in: 8, out: 12, ranks: [2, 5], rows: [[0], [1], []] },
  { T: 5, in: 32, out: 16, ranks: [8, 1, 4], rows: [[2], [0], [], [2], [1], [0]] },
  { T: 4, in: 36, out: 68, ranks: [33, 3], rows: [[0, 1], [1, 0], [1]] },
  { T: 7, in: 64, out: 20, ranks: [16, 16, 2, 7], rows: [[3], [2], [1], [0], [0]] },
];

async function compare(n: Sizes, dropout: number, transposed: boolean, what: string) {
  const size = n.rows.length * n.T;
  const [x, W, dy] = [size * n.in, n.out * n.in, size * n.out].map((count, i) =>
    randomValues(count, i + 1),
  );
  const terms = n.ranks.map((_, i) => ({
    scale: 0.5 + i,
    p: i % 2 === 0 ? dropout : 0,
    key: [7, i] as Key,
  }));
  const own = n.rows.flat();
  const adapters = await Promise.all(
    n.ranks.map(async (r, i) => {
      const seen = own.filter((a) => a === i).length * n.T;
      const { p, key, scale: s } = terms[i]!;
      const mask =
        p > 0 ? await dropoutForward(ones([Math.max(seen, 1), n.in]), p, key).data() : null;
      return { A: randomValues(r * n.in, 10 + i), B: randomValues(n.out * r, 20 + i), r, s, mask };
    }),
  );
  const turned = Float64Array.from(
    { length: W!.length },
    (_, i) => W![(i % n.out) * n.in + Math.floor(i / n.out)]!,
  );
  const t = {
    x: parameter(tensor(x!, [n.rows.length, n.T, n.in])),
    W: transposed ? tensor(turned, [n.in, n.out]) : tensor(W!, [n.out, n.in]),
    As: adapters.map(({ A, r }) => parameter(tensor(A, [r, n.in]))),
    Bs: adapters.map(({ B, r }) => parameter(tensor(B, [n.out, r]))),
  };
  const y = loraMixed(t.x, t.W, null, t.As, t.Bs, { transposed, terms, rows: n.rows });
  const expected = reference.loraMixed(dy!, x!, W!, adapters, n.rows, n);
  const bound = tolerance("f32", n.in + 33);
  close(await y.data(), expected.y, bound, `${what}: y`);
  backward(y, { gradient: tensor(dy!, y.shape) });
  close(await t.x.grad!.data(), expected.dx, bound, `${what}: dx`);
  for (const i of n.ranks.keys()) {
    close(await t.As[i]!.grad!.data(), expected.dA[i]!, 2 * bound, `${what}: dA ${i}`);
    close(await t.Bs[i]!.grad!.data(), expected.dB[i]!, 2 * bound, `${what}: dB ${i}`);
  }
  return (await y.data()) as Float32Array;
}

for (const [i, n] of CASES.entries()) {
  gpuTest(`K1 K2 K7 lora_mixed: case ${i}, all gradients against float64`, async () => {
    for (const transposed of [false, true]) {
      const what = `T ${n.T}, ranks ${n.ranks}${transposed ? ", transposed" : ""}`;
      const first = await compare(n, 0, transposed, what);
      equal(await compare(n, 0, transposed, what), first, "K7");
    }
  });

  gpuTest(`K4 lora_mixed: case ${i}, each adapter drops as it would alone`, async () => {
    await compare(n, 0.4, false, `T ${n.T}, ranks ${n.ranks}, dropout`);
  });
}

gpuTest("M14 lora_mixed: ranks, scales, rows and dropping are data: no new pipelines", async () => {
  const { device } = theGpu();
  const make = device.createComputePipeline.bind(device);
  let made = 0;
  device.createComputePipeline = (descriptor) => {
    made += Number(descriptor.label?.startsWith("lora_mixed"));
    return make(descriptor);
  };
  for (const n of CASES) await compare(n, 0.2, false, "others");
  device.createComputePipeline = make;
  is(made, 0, "the tests above made them all");
});

gpuTest(
  "lora_mixed: a stack copies factors and uploads tables only where they have changed",
  async () => {
    using stack = new MixedStack();
    const [T, inner, out, ranks] = [3, 8, 12, [2, 5]];
    const x = tensor(randomValues(3 * T * inner, 1), [3, T, inner]);
    const W = tensor(randomValues(out * inner, 2), [out, inner]);
    const As = ranks.map((r, i) => tensor(randomValues(r * inner, 3 + i), [r, inner]));
    const Bs = ranks.map((r, i) => tensor(randomValues(out * r, 5 + i), [out, r]));
    const { stream } = theGpu();
    const [copy, write] = [stream.copy, stream.write];
    let [copies, uploads] = [0, 0];
    stream.copy = (...args) => {
      copies += 1;
      copy.apply(stream, args);
    };
    stream.write = (...args) => {
      uploads += 1;
      write.apply(stream, args);
    };
    const run = async (scales: number[], rows: number[][], p = 0) => {
      const terms = scales.map((scale, i) => ({ scale, p, key: [7, i] as Key }));
      const plan = { transposed: false, terms, rows };
      const expected = await loraMixed(x, W, null, As, Bs, plan).data();
      [copies, uploads] = [0, 0];
      const y = loraMixed(x, W, null, As, Bs, { ...plan, stack });
      const made = [copies, uploads];
      equal(await y.data(), expected);
      return made;
    };
    const rows = [[0], [1], [1, 0]];
    equal(await run([1, 2], rows), [4, 2], "at first");
    equal(await run([1, 2], rows), [0, 0], "the same again");
    equal(await run([3, 2], rows), [0, 2], "another scale");
    equal(await run([3, 2], [[1], [], [0]]), [0, 2], "other rows");
    equal(await run([3, 2], [[1], [], [0]], 0.5), [0, 2], "dropping");
    As[1]!.set(randomValues(As[1]!.size, 9));
    equal(await run([3, 2], rows), [2, 2], "an A was written");
    Bs.reverse();
    As.reverse();
    equal(await run([3, 2], rows), [4, 2], "other adapters");
    equal(await run([3, 2], rows), [0, 0], "those again");
    stream.copy = copy;
    stream.write = write;
  },
);

gpuTest("lora_mixed: errors", () => {
  const plan = (rows: number[][]): MixedPlan => ({
    transposed: false,
    terms: [{ scale: 1, p: 0, key: [0, 0] }],
    rows,
  });
  const W = zeros([8, 4]);
  const run = (x: number[], A: number[], B: number[], rows: number[][], weight = W) =>
    loraMixed(zeros(x), weight, null, [zeros(A)], [zeros(B)], plan(rows));
  throwsLike(
    () => run([2, 3, 4], [2, 4], [8, 2], [[0]]),
    "ShapeError",
    "lora_mixed: adapterNames must be 2 names, one for each sequence, got 1",
  );
  throwsLike(
    () => run([6, 4], [2, 4], [8, 2], [[0]]),
    "ShapeError",
    "x must be [sequences, tokens, in]",
  );
  throwsLike(
    () => run([1, 3, 4], [2, 3], [8, 2], [[0]]),
    "ShapeError",
    "a[0] must be [r, in] = [2, 4]",
  );
  throwsLike(
    () => run([1, 3, 4], [2, 4], [7, 2], [[0]]),
    "ShapeError",
    "b[0] must be [out, r] = [8, 2]",
  );
  throwsLike(
    () => run([1, 3, 4], [2, 4], [8, 2], [[1]]),
    "ValueError",
    "rows must be indices of adapters",
  );
  throwsLike(
    () => run([1, 3, 5], [2, 5], [8, 2], [[0]], zeros([8, 5])),
    "ShapeError",
    "in and out must be multiples of 4, got [5, 8]",
  );
});

runTests();
