import { logSoftmax, softmax } from "../../src/autograd/ops/softmax.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import {
  checkBothPaths,
  close,
  gpuTest,
  randomValues,
  runTests,
  theGpu,
  throwsLike,
} from "../gpu.ts";
import * as reference from "../reference/softmax.ts";

for (const [name, run, forward, backward] of [
  ["softmax", softmax, reference.softmax, reference.softmaxBackward],
  ["log_softmax", logSoftmax, reference.logSoftmax, reference.logSoftmaxBackward],
] as const) {
  gpuTest(`${name}: forward and gradient against float64, along any axis`, async () => {
    for (const shape of [[1], [7], [3, 65], [2, 3, 129], [4, 64, 2], [70, 12], [0, 3], [3, 0]]) {
      for (let axis = 0; axis < shape.length; axis++) {
        const n = shape.reduce((a, b) => a * b, 1);
        await checkBothPaths({
          name: `${name} [${shape}] along ${axis}`,
          run: (x) => run(x!, axis),
          inputs: [{ shape, values: randomValues(n, 3, 5) }],
          forward: (x) => forward(x!, shape, axis),
          backward: (dy, x) => [backward(dy, x!, shape, axis)],
          K: shape[axis]! + 1,
        });
      }
    }
  });

  gpuTest(`${name}: rows longer than one thread may walk on lavapipe`, async () => {
    for (const n of [84_004, 33_001]) {
      await checkBothPaths({
        name: `${name} [2, ${n}]`,
        run: (x) => run(x!),
        inputs: [{ shape: [2, n], values: randomValues(2 * n, 5, 3) }],
        forward: (x) => forward(x!, [2, n], 1),
        backward: (dy, x) => [backward(dy, x!, [2, n], 1)],
        K: n,
      });
    }
  });

  gpuTest(`${name}: huge numbers stay finite`, async () => {
    const values = [1e4, 0, -1e4, 1e4];
    const y = await run(tensor(values)).data();
    close(y, forward(Float64Array.from(values), [4], 0), 1e-6, name);
  });

  gpuTest(`${name}: errors`, () => {
    throwsLike(
      () => run(zeros([2, 3]), 2),
      "ValueError",
      `${name}: axis must be in [-2, 1], got 2`,
    );
    throwsLike(() => run(zeros([])), "ValueError", `${name}: axis`);
    if (theGpu().adapterClass !== "gpu") {
      throwsLike(
        () => run(zeros([5_200_000])),
        "LimitError",
        `${name}: x must be of rows of at most`,
      );
    }
    throwsLike(() => run(zeros([2], "i32")), "DTypeError", `${name}: x must be f32, got i32`);
  });
}

runTests();
