import { swiglu } from "../../src/autograd/ops/swiglu.ts";
import { zeros } from "../../src/tensor/create.ts";
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
