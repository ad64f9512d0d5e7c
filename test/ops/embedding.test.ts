import { equal } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { embedding } from "../../src/autograd/ops/embedding.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { decode, encode } from "../../src/tensor/dtype.ts";
import { checkOp, close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/embedding.ts";

function randomIds(n: number, V: number, seed: number): Float64Array {
  return randomValues(n, seed, 0.5).map((v) => Math.floor((v + 0.5) * V * 0.999));
}

gpuTest("embedding: forward and backward against float64", async () => {
  for (const [V, D, idShape] of [
    [1, 1, [1]],
    [7, 3, [2, 5]],
    [11, 8, [4]],
    [5, 16, [3, 40]],
    [70, 5, [129]],
    [4, 4, []],
    [4, 4, [0, 3]],
  ] as [number, number, number[]][]) {
    const N = idShape.reduce((a, b) => a * b, 1);
    for (const dtype of ["i32", "u32"] as const) {
      await checkOp({
        name: `embedding [${V}, ${D}] ids [${idShape}] ${dtype}`,
        run: (w, ids) => embedding(w!, ids!),
        inputs: [
          { shape: [V, D] },
          { shape: idShape, values: randomIds(N, V, 3), dtype, grad: false },
        ],
        forward: (w, ids) => reference.embedding(w!, [V, D], ids!),
        backward: (dy, _, ids) => [reference.embeddingBackward(dy, [V, D], ids!), null],
        K: N,
      });
    }
  }
});

gpuTest("embedding: more ids than one block, repeatable", async () => {
  const [V, D, N] = [3, 2, 16384 + 700];
  const ids = randomIds(N, V, 9);
  const dy = randomValues(N * D, 4);
  const run = async () => {
    const w = parameter(zeros([V, D]));
    const y = embedding(w, tensor(ids, [N], "i32"));
    backward(y, { gradient: tensor(dy, [N, D]) });
    return w.grad!.data();
  };
  const first = await run();
  close(first, reference.embeddingBackward(dy, [V, D], ids), 1e-4, "dweight");
  equal(await run(), first, "the same bits");
});

gpuTest("embedding: frozen f16 and bf16 tables, odd rows", async () => {
  for (const dtype of ["f16", "bf16"] as const) {
    const [V, D] = [5, 3];
    const values = randomValues(V * D, 6);
    const rounded = decode(encode(values, dtype), dtype);
    const ids = [4, 0, 3, 1, 2, 4];
    const y = embedding(tensor(values, [V, D], dtype), tensor(ids, [6], "i32"));
    close(await y.data(), reference.embedding(rounded, [V, D], ids), 0, dtype);
  }
});

gpuTest("embedding: errors", () => {
  const w = zeros([4, 2]);
  const ids = tensor([0, 7], [2], "i32");
  throwsLike(() => embedding(w, ids), "ValueError", "embedding: ids must be in [0, 3], got 7");
  throwsLike(() => embedding(zeros([4]), ids), "ShapeError", "embedding: weight must be [V, D]");
  throwsLike(() => embedding(w, zeros([2])), "DTypeError", "embedding: ids must be i32 or u32");
  throwsLike(() => embedding(zeros([4, 2], "i32"), ids), "DTypeError", "embedding: weight");
});

runTests();
