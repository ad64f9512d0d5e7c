import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { checkpoint } from "../../src/autograd/grad.ts";
import { dropout } from "../../src/autograd/ops/dropout.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/dropout.ts";

gpuTest("K4 dropout: the GPU's bits are the reference's, forward and backward", async () => {
  for (const n of [0, 1, 2, 3, 4, 5, 9, 64, 255, 257, 1001]) {
    for (const p of [0.1, 0.5, 0.9]) {
      manualSeed(42);
      const values = randomValues(n, 3);
      const x = parameter(tensor(values, [n]));
      const y = dropout(x, p);
      const mask = reference.dropoutMask(n, p, [42, 0]);
      close(
        await y.data(),
        values.map((v, i) => v * mask[i]!),
        1e-6,
        `n = ${n}, p = ${p}`,
      );
      if (n === 0) continue;
      const dy = randomValues(n, 4);
      backward(y, { gradient: tensor(dy, [n]) });
      close(
        await x.grad!.data(),
        dy.map((v, i) => v * mask[i]!),
        1e-6,
        "gradient",
      );
      x.grad!.dispose();
      x.dispose();
    }
  }
});

gpuTest("K4 dropout: rate within four sigma, unbiased, other calls drop others", async () => {
  manualSeed(7);
  const n = 40_000;
  const x = tensor(new Float64Array(n).fill(1), [n]);
  const [a, b] = [await dropout(x, 0.3).data(), await dropout(x, 0.3).data()];
  const kept = a.filter((v) => v !== 0).length;
  ok(Math.abs(kept - 0.7 * n) < 4 * Math.sqrt(n * 0.3 * 0.7), `kept ${kept} of ${n}`);
  let both = 0;
  for (let i = 0; i < n; i++) both += Number(a[i] !== 0 && b[i] !== 0);
  const correlation = (both / n - 0.49) / (0.3 * 0.7);
  ok(Math.abs(correlation) < 0.025, `correlation ${correlation}`);
});

gpuTest("dropout: p = 0 and evaluation are the identity, p = 1 is zero", async () => {
  const x = tensor([1, 2, 3]);
  is(dropout(x, 0), x);
  is(dropout(x, 0.5, { training: false }), x);
  equal([...(await dropout(x, 1).data())], [0, 0, 0]);
});

gpuTest("dropout: a checkpoint drops the same elements again", async () => {
  const values = randomValues(500, 2);
  const grads: Float32Array[] = [];
  for (const again of [false, true]) {
    manualSeed(3);
    const x = parameter(tensor(values));
    const y = again ? checkpoint((v) => dropout(v, 0.4), x) : dropout(x, 0.4);
    backward(y, { gradient: tensor(randomValues(500, 9)) });
    grads.push((await x.grad!.data()) as Float32Array);
    x.grad!.dispose();
    x.dispose();
  }
  equal(grads[0], grads[1]);
});

gpuTest("dropout: errors", () => {
  throwsLike(() => dropout(zeros([2]), 1.5), "ValueError", "dropout: p must be in [0, 1], got 1.5");
  throwsLike(() => dropout(zeros([2]), Number.NaN), "ValueError", "dropout: p must be in [0, 1]");
  throwsLike(
    () => dropout(zeros([2], "i32"), 0.5),
    "DTypeError",
    "dropout: x must be f32, got i32",
  );
});

runTests();
