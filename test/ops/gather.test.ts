import { equal, is } from "uvu/assert";
import { mul } from "../../src/autograd/ops/binary.ts";
import { gather, indexSelect } from "../../src/autograd/ops/gather.ts";
import { reshape } from "../../src/autograd/ops/reshape.ts";
import { copyInto } from "../../src/kernels/copy.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { checkIds, rangeOf } from "../../src/tensor/id_range.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import { checkOp, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as embedding from "../reference/embedding.ts";
import * as reference from "../reference/gather.ts";

/** Ids below `count`, with repeats. */
function randomIds(n: number, count: number, seed: number): Float64Array {
  return randomValues(n, seed, 0.5).map((v) => Math.floor((v + 0.5) * count * 0.999));
}

gpuTest("gather: forward and backward against the reference", async () => {
  const cases: [number[], number, number][] = [
    [[5], 0, 3],
    [[4, 7], 1, 1],
    [[4, 7], 1, 9],
    [[4, 7], 0, 6],
    [[2, 3, 4], 1, 5],
    [[2, 3], 1, 0],
  ];
  for (const [shape, axis, k] of cases) {
    const idShape = shape.map((n, i) => (i === axis ? k : n));
    await checkOp({
      name: `gather [${shape}] axis ${axis}, ${k}`,
      run: (x, ids) => gather(x!, axis, ids!),
      inputs: [
        { shape },
        {
          shape: idShape,
          values: randomIds(sizeOf(idShape), shape[axis]!, 3),
          dtype: "i32",
          grad: false,
        },
      ],
      forward: (x, ids) => reference.gather(x!, shape, axis, ids!, idShape),
      backward: (dy, _, ids) => [reference.gatherBackward(dy, shape, axis, ids!, idShape), null],
      K: k,
    });
  }
});

gpuTest("indexSelect: rows of any rank", async () => {
  for (const [shape, idShape] of [
    [[6], [4]],
    [
      [5, 3],
      [2, 4],
    ],
    [[4, 2, 3], []],
    [[3, 4], [0]],
  ] as [number[], number[]][]) {
    const D = sizeOf(shape.slice(1));
    const V = shape[0]!;
    await checkOp({
      name: `indexSelect [${shape}] ids [${idShape}]`,
      run: (x, ids) => indexSelect(x!, ids!),
      inputs: [
        { shape },
        { shape: idShape, values: randomIds(sizeOf(idShape), V, 5), dtype: "u32", grad: false },
      ],
      forward: (x, ids) => embedding.embedding(x!, [V, D], ids!),
      backward: (dy, _, ids) => [embedding.embeddingBackward(dy, [V, D], ids!), null],
      K: 8,
    });
  }
});

gpuTest("gather: ids that the GPU made are clamped", async () => {
  const far = mul(tensor([1, 0, -1], [3], "i32"), 1000);
  is(rangeOf(far), null);
  equal(Array.from(await indexSelect(tensor([5, 6, 7]), far).data()), [7, 5, 7]);
});

gpuTest("id ranges: known for uploads and their views, until they are written", () => {
  const ids = tensor([3, 9, -100, 4], [4], "i32");
  equal(rangeOf(reshape(ids, [2, 2]))?.max, 9);
  equal(rangeOf(ids)?.negative, [-100]);
  checkIds("test", "ids", ids, 10, -100);
  throwsLike(() => checkIds("test", "ids", ids, 10), "ValueError", "got -100");
  throwsLike(() => checkIds("test", "ids", ids, 9, -100), "ValueError", "got 9", "Only -100");
  throwsLike(() => checkIds("test", "ids", ids, 0, -100), "ValueError", "empty");
  copyInto(ids, tensor([1], [1], "i32"), 0, 0);
  is(rangeOf(ids), null);
  is(rangeOf(tensor([1, 2])), null);
  is(rangeOf(zeros([0], "i32")), null);
});

gpuTest("gather: errors", () => {
  const x = zeros([3, 4]);
  const ids = tensor([0, 4, 1], [3, 1], "i32");
  throwsLike(() => gather(x, 1, ids), "ValueError", "gather: ids must be in [0, 3], got 4");
  throwsLike(() => gather(x, 0, ids), "ShapeError", "gather: ids must be [k, 4]", "got [3, 1]");
  throwsLike(() => gather(x, 2, ids), "ValueError", "gather: axis must be in [-2, 1]");
  throwsLike(() => gather(x, 1, zeros([3, 1])), "DTypeError", "gather: ids must be i32 or u32");
  throwsLike(
    () => indexSelect(x, tensor([-1], [1], "i32")),
    "ValueError",
    "index_select: ids",
    "-1",
  );
  throwsLike(() => indexSelect(zeros([]), zeros([1], "i32")), "ShapeError", "index_select: x");
});

runTests();
