import { gelu } from "../../src/autograd/ops/gelu.ts";
import type { GeluForm } from "../../src/kernels/gelu.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/gelu.ts";

for (const form of ["none", "tanh"] as GeluForm[]) {
  gpuTest(`gelu ${form}: forward and backward against float64`, async () => {
    for (const shape of [[], [1], [3, 7], [64], [65], [2, 3, 129], [0, 4]]) {
      const n = shape.reduce((a, b) => a * b, 1);
      await checkBothPaths({
        name: `gelu ${form} [${shape}]`,
        run: (x) => gelu(x!, form),
        inputs: [{ shape, values: randomValues(n, 7, 6) }],
        forward: (x) => reference.gelu(x!, form),
        backward: (dy, x) => [reference.geluBackward(dy, x!, form)],
      });
    }
  });
}

gpuTest("gelu with a bias: forward and both gradients against float64", async () => {
  for (const form of ["none", "tanh"] as GeluForm[]) {
    for (const D of [1, 3, 64, 65, 132]) {
      for (const lead of [[], [1], [5], [2, 66]]) {
        const shape = [...lead, D];
        const n = D * lead.reduce((a, b) => a * b, 1);
        const sums = (x: Float64Array, b: Float64Array) => x.map((v, i) => v + b[i % D]!);
        await checkBothPaths({
          name: `gelu ${form} [${shape}] with a bias`,
          run: (x, b) => gelu(x!, form, b!),
          inputs: [{ shape, values: randomValues(n, 7, 4) }, { shape: [D] }],
          forward: (x, b) => reference.gelu(sums(x!, b!), form),
          backward: (dy, x, b) => {
            const dx = reference.geluBackward(dy, sums(x!, b!), form);
            const dbias = new Float64Array(D);
            for (const [i, v] of dx.entries()) dbias[i % D]! += v;
            return [dx, dbias];
          },
          K: 132,
        });
      }
    }
  }
});

gpuTest("gelu with a bias: frozen, or of no rows", async () => {
  await checkBothPaths({
    name: "gelu with a frozen bias",
    run: (x, b) => gelu(x!, "tanh", b!),
    inputs: [{ shape: [3, 4] }, { shape: [4], values: [0, 0, 0, 0], grad: false }],
    forward: (x) => reference.gelu(x!, "tanh"),
    backward: (dy, x) => [reference.geluBackward(dy, x!, "tanh"), null],
  });
  await checkBothPaths({
    name: "gelu [0, 4] with a bias",
    run: (x, b) => gelu(x!, "tanh", b!),
    inputs: [{ shape: [0, 4] }, { shape: [4] }],
    forward: () => [],
    backward: () => [[], [0, 0, 0, 0]],
  });
});

gpuTest("gelu: saturates without NaN", async () => {
  await checkBothPaths({
    name: "gelu far out",
    run: (x) => gelu(x!, "tanh"),
    inputs: [{ shape: [4], values: [-1e4, -30, 30, 1e4] }],
    forward: (x) => reference.gelu(x!, "tanh"),
    backward: (dy, x) => [reference.geluBackward(dy, x!, "tanh")],
  });
});

gpuTest("gelu: errors", () => {
  throwsLike(
    () => gelu(zeros([2, 3]), "tanh", zeros([2])),
    "ShapeError",
    "gelu: bias must be [D] = [3], got [2]",
  );
  throwsLike(() => gelu(zeros([3]), "tanh", zeros([3], "i32")), "DTypeError", "gelu: bias");
  throwsLike(() => gelu(zeros([2], "i32")), "DTypeError", "gelu: x must be f32, got i32", "cast");
});

runTests();
