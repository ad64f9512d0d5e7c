import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { checkpoint, detach, grad, valueAndGrad } from "../../src/autograd/grad.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { add, dropout, gelu, matmul, mul, sum } from "../../src/autograd/ops/index.ts";
import { accumulate } from "../../src/kernels/accumulate.ts";
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

runTests();
