import { equal, is } from "uvu/assert";
import { gt } from "../../src/autograd/ops/binary.ts";
import { where } from "../../src/autograd/ops/where.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import { checkOp, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/where.ts";

const bits = (n: number) => randomValues(n, 7).map((v) => (v > 0 ? 1 : 0));

gpuTest("where: forward and backward against the reference", async () => {
  const cases: [number[], number[], number[]][] = [
    [[], [], []],
    [[7], [7], [7]],
    [[3, 4], [4], [3, 1]],
    [[4], [3, 4], []],
    [
      [2, 1, 3],
      [5, 1],
      [2, 5, 3],
    ],
    [
      [2, 1, 2, 1, 2, 1],
      [1, 3, 1, 2, 1, 2],
      [2, 1, 1, 2, 2, 1],
    ],
    [[0, 3], [3], [1]],
  ];
  for (const shapes of cases) {
    for (const dtype of ["u32", "i32", "f32"] as const) {
      const [sm, sa, sb] = shapes;
      await checkOp({
        name: `where ${JSON.stringify(shapes)} ${dtype}`,
        run: (m, a, b) => where(m!, a!, b!),
        inputs: [
          { shape: sm, values: bits(sizeOf(sm)), dtype, grad: false },
          { shape: sa },
          { shape: sb, values: randomValues(sizeOf(sb), 31) },
        ],
        forward: (m, a, b) => reference.where(m!, a!, b!, shapes).data,
        backward: (dy, m) => [null, ...reference.whereBackward(dy, m!, shapes)],
        K: 100,
      });
    }
  }
});

gpuTest("where: numbers, integers, negative zero", async () => {
  const x = tensor([-1, 2, -3], [3]);
  equal(Array.from(await where(gt(x, 0), x, 0).data()), [0, 2, 0]);
  equal(Array.from(await where(gt(x, 0), 1, x).data()), [-1, 1, -3]);
  equal(Array.from(await where(gt(x, 0), 1, -2.5).data()), [-2.5, 1, -2.5]);
  equal(Array.from(await where(tensor([-0, 0, 1], [3]), 1, 0).data()), [0, 0, 1]);
  const ids = where(gt(x, 0), tensor([16777217, 16777219, 3], [3], "i32"), -100);
  is(ids.dtype, "i32");
  equal(Array.from(await ids.data()), [-100, 16777219, -100]);
});

gpuTest("where: errors", () => {
  const m = zeros([2, 3], "u32");
  const x = zeros([2, 3]);
  throwsLike(
    () => where(zeros([2, 2], "u32"), x, x),
    "ShapeError",
    "where: mask must be broadcastable",
  );
  throwsLike(() => where(m, x, zeros([2])), "ShapeError", "where: b must be broadcastable with a");
  throwsLike(() => where(zeros([2, 3], "f16"), x, x), "DTypeError", "where: mask must be u32");
  throwsLike(() => where(m, x, zeros([3], "i32")), "DTypeError", "where: b must be f32, as a is");
  throwsLike(() => where(m, zeros([3], "u32"), -1), "ValueError", "where: b must be an integer");
});

runTests();
