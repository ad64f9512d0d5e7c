import { equal, is, ok } from "uvu/assert";
import { mul } from "../../src/autograd/ops/index.ts";
import { rand, randn, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope, scoped } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

gpuTest("a scope frees what was born in it, but not what was kept", async () => {
  const before = theGpu().stats().tensorsLive;
  let kept: Tensor;
  let lost: Tensor;
  {
    using s = scope();
    lost = tensor([1, 2, 3]);
    kept = s.keep(mul(lost, lost));
  }
  ok(lost.disposed);
  equal([...(await kept.data())], [1, 4, 9]);
  is(theGpu().stats().tensorsLive, before + 1);
  throwsLike(() => mul(lost, kept), "DisposedError", "mul: argument 1 must be alive", "s.keep(x)");
});

gpuTest("a scope frees on a throw, and after an await", async () => {
  const before = theGpu().stats();
  try {
    using _ = scope();
    zeros([1000]);
    throw new Error("on purpose");
  } catch {}
  {
    using _ = scope();
    await zeros([1000]).data();
  }
  is(theGpu().stats().tensorsLive, before.tensorsLive);
  is(theGpu().stats().bytesLive, before.bytesLive);
});

gpuTest("scopes closed out of order throw", () => {
  const outer = scope();
  scope();
  throwsLike(
    () => outer.dispose(),
    "LowrankError",
    "scope: scopes must close in the order inner, outer",
  );
});

gpuTest("scoped hands its result outward; views share memory", async () => {
  const y = scoped(() => {
    const x = tensor([1, 2, 3, 4]);
    return x.view([2, 2]);
  });
  equal(await y.array(), [
    [1, 2],
    [3, 4],
  ]);
});

gpuTest("freed buffers are used again", () => {
  const sizes = [];
  for (let i = 0; i < 5; i++) {
    using _ = scope();
    zeros([12345]);
    sizes.push(theGpu().stats().bytesReserved);
  }
  is(sizes[4], sizes[0]);
});

gpuTest("one seed, one stream of numbers; another seed, others", async () => {
  const draw = async (seed: number) => {
    manualSeed(seed);
    return [[...(await rand([7]).data())], [...(await randn([5]).data())]];
  };
  equal(await draw(3), await draw(3));
  ok((await draw(3))[0]![0] !== (await draw(4))[0]![0]);
  manualSeed(1);
  const n = 20_000;
  const values = await randn([n]).data();
  let [sum, squares] = [0, 0];
  for (const v of values) {
    sum += v;
    squares += v * v;
  }
  ok(Math.abs(sum / n) < 4 / Math.sqrt(n));
  ok(Math.abs(squares / n - 1) < 0.05);
});

gpuTest("creation: bad shapes and values are refused", () => {
  throwsLike(() => tensor([[1, 2], [3]]), "ShapeError", "tensor: values", "the same length");
  throwsLike(() => zeros([2, -1]), "ShapeError", "zeros: shape", "[2, -1]");
  throwsLike(
    () => tensor(Float32Array.of(1, 2), [3]),
    "ShapeError",
    "tensor: values must be 3 numbers",
  );
});

runTests();
