import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { checkpoint } from "../../src/autograd/checkpoint.ts";

import { dropout } from "../../src/autograd/ops/dropout.ts";
import { kernel } from "../../src/kernels/kernel.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/dropout.ts";
import { threefry4x32 } from "../reference/threefry.ts";

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

gpuTest(
  "K4 dropout: rate within four sigma, unbiased; other calls and seeds drop others",
  async () => {
    const n = 250_001; // four sigma of a correlation are 0.008
    const x = tensor(new Float64Array(n).fill(1), [n]);
    const kept: Float32Array[] = [];
    for (const seed of [7, 8]) {
      manualSeed(seed);
      for (let call = 0; call < 2; call++) {
        kept.push((await dropout(x, 0.3).data()) as Float32Array);
      }
    }
    const sigma = Math.sqrt(n * 0.3 * 0.7);
    const isKept = kept.map((mask) => mask.map((v) => Number(v !== 0)));
    for (const [i, mask] of kept.entries()) {
      const count = isKept[i]!.reduce((a, b) => a + b, 0);
      ok(Math.abs(count - 0.7 * n) < 4 * sigma, `kept ${count} of ${n}`);
      const mean = mask.reduce((a: number, b) => a + b, 0) / n;
      ok(Math.abs(mean - 1) < (4 * sigma) / (0.7 * n), `the mean is ${mean}`);
      for (const [j, other] of isKept.slice(0, i).entries()) {
        const both = isKept[i]!.reduce((sum, v, k) => sum + v * other[k]!, 0);
        const correlation = (both / n - 0.49) / (0.3 * 0.7);
        ok(Math.abs(correlation) < 0.01, `correlation of draws ${i} and ${j}: ${correlation}`);
      }
    }
  },
);

gpuTest(
  "threefry on the GPU draws what its reference draws, which has Random123's known answers",
  async () => {
    const source = `// requires: threefry
@group(0) @binding(0) var<storage> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>>;
@compute @workgroup_size(1)
fn draw_forward(@builtin(workgroup_id) id: vec3<u32>) {
  words[id.x] = threefry4x32(input[2u * id.x], input[2u * id.x + 1u]);
}`;
    const [zero, ones] = [new Array(8).fill(0), new Array(8).fill(0xffffffff)];
    const random = Array.from({ length: 200 }, (_, i) =>
      Array.from(randomValues(8, i + 1), (v) => Math.floor((v + 1) * 2 ** 31) >>> 0),
    );
    const inputs: number[][] = [zero, ones, ...random];
    const words = zeros([inputs.length, 4], "u32");
    const input = tensor(Uint32Array.from(inputs.flat()));
    kernel("draw", source).run("draw_forward", {
      tensors: { input, words },
      groups: [inputs.length],
    });
    const drawn = inputs.flatMap(([a, b, c, d, e, f, g, h]) =>
      threefry4x32([a!, b!, c!, d!], [e!, f!, g!, h!]),
    );
    equal([...(await words.data())], drawn);
  },
);

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
