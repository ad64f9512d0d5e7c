import { is } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { crossEntropy } from "../../src/autograd/ops/cross_entropy.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import {
  checkOp,
  close,
  gpuTest,
  randomValues,
  runTests,
  theGpu,
  throwsLike,
  tolerance,
} from "../gpu.ts";
import * as reference from "../reference/cross_entropy.ts";

function someTargets(N: number, V: number): Int32Array {
  return Int32Array.from({ length: N }, (_, i) => (i % 3 === 1 ? -100 : (i * 7 + 3) % V));
}

gpuTest("cross_entropy: mean and its gradient against float64, some targets ignored", async () => {
  for (const [N, V] of [
    [1, 1],
    [2, 3],
    [17, 64],
    [65, 257],
    [200, 5],
    [3, 1025],
    [2, 128_256], // Llama 3's vocabulary: past the turns that one loop may take on lavapipe
  ] as [number, number][]) {
    const targets = someTargets(N, V);
    await checkOp({
      name: `cross_entropy [${N}, ${V}]`,
      run: (logits) => crossEntropy(logits!, tensor(targets)),
      inputs: [{ shape: [N, V], values: randomValues(N * V, 5, 4) }],
      forward: (logits) => reference.crossEntropy(logits!, [N, V], targets),
      backward: (dy, logits) => [reference.crossEntropyBackward(dy, logits!, [N, V], targets)],
      K: V,
    });
  }
});

gpuTest("cross_entropy: sum is mean times rows; none gives each row", async () => {
  const [N, V] = [7, 11];
  const targets = someTargets(N, V);
  const values = randomValues(N * V, 5, 4);
  const counted = targets.filter((t) => t !== -100).length;
  const logits = parameter(tensor(values, [N, V]));
  const sum = crossEntropy(logits, tensor(targets), { reduction: "sum" });
  const expected = reference.crossEntropy(values, [N, V], targets)[0]! * counted;
  close(await sum.data(), [expected], tolerance("f32", V * N), "sum");
  const rows = crossEntropy(logits, tensor(targets), { reduction: "none" });
  const each = (await rows.data()) as Float32Array;
  close([each.reduce((a, b) => a + b, 0)], [expected], tolerance("f32", V * N), "rows");
  targets.forEach((t, i) => {
    if (t === -100) is(each[i], 0);
  });
  const dy = randomValues(N, 3);
  backward(rows, { gradient: tensor(dy, [N]) });
  const got = await logits.grad!.data();
  for (let i = 0; i < N; i++) {
    const row = values.subarray(i * V, (i + 1) * V);
    const one = reference.crossEntropyBackward([dy[i]!], row, [1, V], [targets[i]!]);
    close(got.subarray(i * V, (i + 1) * V), one, tolerance("f32", V), `row ${i}`);
  }
  logits.grad!.dispose();
  logits.dispose();
});

gpuTest("cross_entropy: large logits stay finite; nothing counted gives 0", async () => {
  const targets = [0, 2];
  await checkOp({
    name: "cross_entropy of logits of size 1e4",
    run: (logits) => crossEntropy(logits!, tensor(Int32Array.from(targets))),
    inputs: [{ shape: [2, 3], values: [1e4, 0, -1e4, -1e4, 0, 1e4] }],
    forward: (logits) => reference.crossEntropy(logits!, [2, 3], targets),
    backward: (dy, logits) => [reference.crossEntropyBackward(dy, logits!, [2, 3], targets)],
  });
  const logits = parameter(tensor(randomValues(6, 1), [2, 3]));
  const loss = crossEntropy(logits, tensor(Int32Array.of(-100, -100)));
  backward(loss);
  is(await loss.item(), 0);
  close(await logits.grad!.data(), [0, 0, 0, 0, 0, 0], 0, "gradient");
  logits.grad!.dispose();
  logits.dispose();
});

gpuTest("cross_entropy: errors come before anything is allocated", () => {
  const logits = zeros([2, 3]);
  const ids = tensor(Int32Array.of(0, 1));
  const floats = zeros([2]);
  const one = tensor(Int32Array.of(0));
  const before = theGpu().stats().buffersLive;
  throwsLike(
    () => crossEntropy(logits, floats),
    "DTypeError",
    "cross_entropy: targets must be i32 or u32",
  );
  throwsLike(
    () => crossEntropy(logits, one),
    "ShapeError",
    "cross_entropy: targets must be [N] = [2], got [1]",
  );
  throwsLike(() => crossEntropy(floats, ids), "ShapeError", "cross_entropy: logits must be [N, V]");
  is(theGpu().stats().buffersLive, before);
});

runTests();
