import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { checkpoint } from "../../src/autograd/checkpoint.ts";
import { detach, grad, valueAndGrad } from "../../src/autograd/grad.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { op } from "../../src/autograd/op.ts";
import {
  add,
  dropout,
  gelu,
  linear,
  matmul,
  mul,
  split,
  sum,
} from "../../src/autograd/ops/index.ts";
import { accumulate } from "../../src/kernels/accumulate.ts";
import { binaryForward } from "../../src/kernels/binary.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, randomValues, runTests, theGpu, throwsLike } from "../gpu.ts";

const leaf = (...values: number[]) => parameter(tensor(values));

async function gradOf(x: Tensor): Promise<number[]> {
  return [...(await x.grad!.data())];
}

function free(...list: Tensor[]): void {
  for (const t of list) {
    t.grad?.dispose();
    t.dispose();
  }
}

gpuTest("gradients add up over a diamond, and over two calls", async () => {
  const x = leaf(2, 3);
  const loss = () => sum(add(mul(x, x), mul(x, x))); // 2x²
  backward(loss());
  equal(await gradOf(x), [8, 12]);
  backward(loss());
  equal(await gradOf(x), [16, 24]);
  free(x);
});

/** 2x and x·w, as one op. */
const twoResults = op("two_results", {
  forward: (x: Tensor, w: Tensor) => [
    [binaryForward("mul", x, 2), binaryForward("mul", x, w)],
    { x, w },
  ],
  backward: ([da, db], { x, w }, needs) => {
    seen.push([da !== null, db !== null, ...needs]);
    const fromA = da && binaryForward("mul", da, 2);
    const fromB = db && binaryForward("mul", db, w);
    const both = fromA && fromB ? binaryForward("add", fromA, fromB) : (fromA ?? fromB);
    return [both, db && binaryForward("mul", db, x)];
  },
});
let seen: boolean[][] = [];

gpuTest(
  "an op with two results: each has its own gradient, or none where nobody used it",
  async () => {
    const { buffersLive } = theGpu().stats();
    const [x, w] = [leaf(2, 3), leaf(5, 7)];
    seen = [];
    {
      using _ = scope();
      const [a, b] = twoResults(x, w);
      equal(
        [[...(await a.data())], [...(await b.data())]],
        [
          [4, 6],
          [10, 21],
        ],
      );
      backward(sum(add(mul(a, 3), mul(b, b)))); // 6x + (x·w)²
      equal(await gradOf(x), [6 + 2 * 10 * 5, 6 + 2 * 21 * 7]);
      equal(await gradOf(w), [2 * 10 * 2, 2 * 21 * 3]);
    }
    {
      using _ = scope();
      backward(sum(twoResults(x, tensor([1, 1]))[0])); // the second is not used, w is frozen
      equal(await gradOf(x), [108, 302]);
      const [, b] = twoResults(tensor([1, 1]), w);
      backward(sum(add(b, b)));
      equal(await gradOf(w), [42, 128]);
    }
    equal(seen, [
      [true, true, true, true],
      [true, false, true, false],
      [false, true, false, true],
    ]);
    free(x, w);
    is(theGpu().stats().buffersLive, buffersLive);
  },
);

gpuTest("an op with two results: one node, whose residuals backward() frees once", async () => {
  const x = leaf(2, 3);
  const [a, b] = twoResults(x, tensor([1, 1]));
  backward(sum(a), { retainGraph: true });
  backward(sum(b));
  equal(await gradOf(x), [3, 3]);
  throwsLike(() => backward(sum(a)), "GradError", "got two_results, whose residuals");
  free(x);
});

gpuTest("backward twice is refused, but with retainGraph", async () => {
  const x = leaf(1, 2);
  const loss = sum(mul(x, x));
  backward(loss, { retainGraph: true });
  backward(loss);
  equal(await gradOf(x), [4, 8]);
  throwsLike(
    () => backward(loss),
    "GradError",
    "backward: the graph must be complete",
    "retainGraph",
  );
  free(x);
});

gpuTest(
  "a rule that saved nothing runs again: parts of one split, one loss after another",
  async () => {
    const x = leaf(1, 2);
    const [a, b] = split(x, 1);
    backward(a!);
    backward(b!);
    equal(await gradOf(x), [1, 1]);
    backward(b!);
    equal(await gradOf(x), [1, 2]);
    free(x);
  },
);

gpuTest("backward: errors", () => {
  const x = leaf(1, 2);
  throwsLike(
    () => backward(mul(x, x)),
    "GradError",
    "backward: the tensor must be a scalar, got [2]",
  );
  throwsLike(() => backward(tensor([1])), "GradError", "without a graph");
  throwsLike(
    () => backward(mul(x, x), { gradient: tensor([1]) }),
    "ShapeError",
    "backward: gradient",
  );
  free(x);
});

gpuTest("noGrad records nothing; detach stops gradients; frozen leaves get none", async () => {
  const [x, w] = [leaf(1, 2), tensor([3, 4])];
  is(noGrad(() => mul(x, x)).requiresGrad, false);
  backward(sum(add(mul(detach(x), x), mul(w, x))));
  equal(await gradOf(x), [4, 6]);
  is(w.grad, null);
  throwsLike(() => noGrad(async () => 1), "GradError", "synchronous");
  free(x);
});

gpuTest("grad and valueAndGrad leave no trace on their arguments", async () => {
  const [a, b] = [tensor([1, 2]), tensor([3, 4])];
  const { value, grads } = valueAndGrad((x: Tensor, y: Tensor) => sum(mul(x, y)))(a, b);
  is(await value.item(), 11);
  equal([...(await grads[0].data())], [3, 4]);
  is(a.grad, null);
  is(a.requiresGrad, false);
  equal([...(await grad((x: Tensor) => sum(mul(x, x)))(a)[0].data())], [2, 4]);
});

gpuTest("T6 a checkpoint gives the plain gradients bit for bit, dropout included", async () => {
  const results: Float32Array[][] = [];
  for (const again of [false, true]) {
    manualSeed(11);
    const w = parameter(tensor(randomValues(64, 1), [8, 8]));
    const x = parameter(tensor(randomValues(24, 2), [3, 8]));
    const block = (v: Tensor) => dropout(gelu(matmul(v, w)), 0.3);
    const y = again ? checkpoint(block, x) : block(x);
    backward(sum(mul(y, y)));
    results.push([(await w.grad!.data()) as Float32Array, (await x.grad!.data()) as Float32Array]);
    free(w, x);
  }
  equal(results[0], results[1]);
});

gpuTest("what backward needed is freed with the graph, used or not", () => {
  const x = leaf(...randomValues(50, 3));
  const before = theGpu().stats();
  for (const use of [true, false]) {
    using _ = scope();
    const loss = sum(gelu(mul(x, x)));
    if (use) backward(loss);
  }
  x.grad!.dispose();
  x.grad = null;
  const after = theGpu().stats();
  is(after.tensorsLive, before.tensorsLive);
  is(after.bytesLive, before.bytesLive);
  free(x);
});

gpuTest("a residual that was written in place is noticed", () => {
  const x = leaf(1, 2);
  const y = mul(x, x);
  accumulate(x, tensor([1, 1]));
  throwsLike(() => backward(sum(y)), "GradError", "mul backward: a residual must be unchanged");
  free(x);
});

gpuTest("a function of nothing and long chains", async () => {
  const x = leaf(1);
  let y: Tensor = x;
  for (let i = 0; i < 3000; i++) y = add(y, x);
  backward(sum(y));
  close(await gradOf(x), [3001], 0, "a chain of 3000");
  ok(true);
  free(x);
});

gpuTest("products add to a gradient that is there, with no dispatch of their own", async () => {
  const x = parameter(tensor(randomValues(12, 1), [3, 4]));
  const weights = [2, 3].map((seed) => parameter(tensor(randomValues(20, seed), [5, 4])));
  const dy = tensor(randomValues(15, 4), [3, 5]);
  const once = async () => {
    const ys = weights.map((w) => linear(x, w));
    const before = theGpu().stats().dispatches;
    for (const y of ys) backward(y, { gradient: dy });
    const count = theGpu().stats().dispatches - before;
    return { count, dx: await x.grad!.data(), dw: await weights[0]!.grad!.data() };
  };
  const first = await once();
  const second = await once();
  is(second.count, 4); // dx and dW of each product
  for (const name of ["dx", "dw"] as const) {
    close(
      second[name],
      Array.from(first[name], (v) => 2 * v),
      1e-6,
      name,
    );
  }
});

runTests();
