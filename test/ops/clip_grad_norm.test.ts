import { equal, is } from "uvu/assert";
import { gradNorm, scaleBy } from "../../src/kernels/clip_grad_norm.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/clip_grad_norm.ts";

const lists = [[1], [3], [4], [65], [1000], [2, 3, 129], [16, 16384], [70001, 5], [0, 7]];

gpuTest("clip_grad_norm: norm and clipped gradients against float64", async () => {
  for (const sizes of lists) {
    for (const maxNorm of [0.5, 1e4]) {
      const values = sizes.map((n, i) => randomValues(n, i + n, 2));
      const gradients = values.map((x) => tensor(x));
      const { norm, factor } = gradNorm(gradients, maxNorm);
      const expected = reference.clipGradNorm(values, maxNorm);
      const name = `[${sizes}], at most ${maxNorm}`;
      close([(await norm.item()) / expected.norm], [1], tolerance("f32", 64), `${name}: norm`);
      for (const g of gradients) scaleBy(g, factor);
      for (const [i, g] of gradients.entries()) {
        close(await g.data(), expected.gradients[i]!, tolerance("f32", 64), `${name}: gradient`);
      }
    }
  }
});

gpuTest("clip_grad_norm: no gradients, zero gradients, no limit", async () => {
  const none = gradNorm([], 1);
  equal([await none.norm.item(), await none.factor.item()], [0, 1]);
  const zero = gradNorm([zeros([70])], 1);
  equal([await zero.norm.item(), await zero.factor.item()], [0, 1]);
  const free = gradNorm([tensor([3e6, 4e6])], Infinity);
  equal([await free.norm.item(), await free.factor.item()], [5e6, 1]);
});

gpuTest("clip_grad_norm: equal gradients give equal bits", async () => {
  const x = tensor(randomValues(30001, 5));
  const first = await gradNorm([x], 1).norm.item();
  for (let i = 0; i < 3; i++) is(await gradNorm([x], 1).norm.item(), first);
});

gpuTest("clip_grad_norm: refuses integers", () => {
  throwsLike(
    () => gradNorm([zeros([2]), zeros([2], "i32")], 1),
    "DTypeError",
    "clip_grad_norm: gradient 2 must be f32, got i32",
  );
});

runTests();
