import { equal, is } from "uvu/assert";
import { accumulate } from "../../src/kernels/accumulate.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";

gpuTest("accumulate adds in place, whatever the length", async () => {
  for (const n of [1, 3, 4, 31, 2049, 5000]) {
    const [a, b] = [randomValues(n, 1), randomValues(n, 2)];
    const total = tensor(a, [n]);
    const { version } = total.storage;
    accumulate(total, tensor(b, [n]));
    equal(
      [...(await total.data())],
      Array.from(a, (v, i) => Math.fround(v + b[i]!)),
      `${n}`,
    );
    is(total.storage.version, version + 1, "autograd is told");
  }
  accumulate(zeros([0]), zeros([0]));
});

gpuTest("accumulate: errors", () => {
  throwsLike(
    () => accumulate(zeros([2, 3]), zeros([3, 2])),
    "ShapeError",
    "accumulate: x must be [2, 3], got [3, 2]",
  );
});

runTests();
