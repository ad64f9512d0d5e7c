import { equal } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { mul } from "../../src/autograd/ops/binary.ts";
import { swiglu } from "../../src/autograd/ops/swiglu.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { scoped } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { checkBothPaths, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/swiglu.ts";

gpuTest("swiglu: forward and both gradients against float64", async () => {
  for (const shape of [[], [1], [3, 7], [64], [65], [2, 3, 129], [0, 4]]) {
    const n = shape.reduce((a, b) => a * b, 1);
    await checkBothPaths({
      name: `swiglu [${shape}]`,
      run: (gate, up) => swiglu(gate!, up!),
      inputs: [{ shape, values: randomValues(n, 7, 6) }, { shape }],
      forward: (gate, up) => reference.swiglu(gate!, up!),
      backward: (dy, gate, up) => reference.swigluBackward(dy, gate!, up!),
    });
  }
});

gpuTest(
  "swiglu: gradients in the places of gate and up are the same bits, and spare what others hold",
  async () => {
    for (const n of [1, 7, 600]) {
      const leaves = [randomValues(n, 3, 4), randomValues(n, 4)].map((v) =>
        parameter(tensor(v, [n])),
      );
      const [a, b] = leaves as [Tensor, Tensor];
      const dy = tensor(randomValues(n, 5), [n]);
      const run = async (keepsUp: boolean, keepsGate = keepsUp) => {
        const kept: Tensor[] = [];
        const y = scoped(() => {
          const [gate, up] = [mul(a, 2), mul(b, 3)];
          if (keepsUp) kept.push(up.handle());
          if (keepsGate) kept.push(gate.handle());
          return swiglu(gate, up);
        });
        const before = await Promise.all(kept.map((t) => t.data()));
        backward(y, { gradient: dy });
        const grads = await Promise.all(leaves.map((p) => p.grad!.data()));
        equal(
          await Promise.all(kept.map((t) => t.data())),
          before,
          "what others hold is untouched",
        );
        for (const t of [...kept, ...leaves.map((p) => p.grad!)]) t.dispose();
        for (const p of leaves) p.grad = null;
        return grads;
      };
      const expected = await run(true);
      equal(await run(false), expected, "in place");
      equal(await run(false, true), expected, "gate is held");
      equal(await run(true, false), expected, "up is held");
      for (const p of leaves) p.dispose();
    }
  },
);

gpuTest("swiglu: saturates without NaN", async () => {
  await checkBothPaths({
    name: "swiglu far out",
    run: (gate, up) => swiglu(gate!, up!),
    inputs: [{ shape: [4], values: [-1e4, -100, 100, 1e4] }, { shape: [4] }],
    forward: (gate, up) => reference.swiglu(gate!, up!),
    backward: (dy, gate, up) => reference.swigluBackward(dy, gate!, up!),
  });
});

gpuTest("swiglu: errors", () => {
  throwsLike(() => swiglu(zeros([2]), zeros([3])), "ShapeError", "swiglu: up must be [2], got [3]");
  throwsLike(() => swiglu(zeros([2]), zeros([2], "i32")), "DTypeError", "swiglu: up must be f32");
});

runTests();
