import { equal } from "uvu/assert";
import { rope } from "../../src/autograd/ops/rope.ts";
import { ropeTables } from "../../src/kernels/rope.ts";
import { zeros } from "../../src/tensor/create.ts";
import { checkOp, gpuTest, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/rope.ts";

gpuTest("rope: forward and gradient against float64", async () => {
  for (const shape of [
    [1, 1, 1, 2],
    [2, 5, 3, 8],
    [1, 17, 2, 64],
    [3, 4, 1, 6],
    [0, 3, 2, 4],
  ] as [number, number, number, number][]) {
    for (const offset of [0, 7]) {
      const { cos, sin } = ropeTables(24, shape[3]);
      await checkOp({
        name: `rope [${shape}] from ${offset}`,
        run: (x) => rope(x!, cos, sin, { offset }),
        inputs: [{ shape }],
        forward: (x) => reference.rope(x!, shape, { offset }),
        backward: (dy) => [reference.ropeBackward(dy, shape, { offset })],
      });
    }
  }
});

gpuTest("rope: position 0 changes nothing", async () => {
  const { cos, sin } = ropeTables(1, 4);
  equal([...(await cos.data())], [1, 1]);
  equal([...(await sin.data())], [0, 0]);
});

gpuTest("rope: errors", () => {
  const { cos, sin } = ropeTables(4, 8);
  const x = zeros([1, 3, 2, 8]);
  throwsLike(
    () => rope(x, cos, sin, { offset: 2 }),
    "ValueError",
    "rope: offset must be in [0, 1]",
  );
  throwsLike(
    () => rope(zeros([1, 3, 2, 6]), cos, sin),
    "ShapeError",
    "rope: x",
    "got [1, 3, 2, 6]",
  );
  throwsLike(() => rope(zeros([3, 2, 8]), cos, sin), "ShapeError", "rope: x must be [B, T, H, d]");
  throwsLike(() => ropeTables(4, 7), "ValueError", "rope: d must be even and positive, got 7");
});

runTests();
