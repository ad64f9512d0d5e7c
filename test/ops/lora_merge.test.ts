import { is } from "uvu/assert";
import { loraMergeInto } from "../../src/kernels/lora_merge.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { decode, encode } from "../../src/tensor/dtype.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/lora_merge.ts";

for (const dtype of ["f32", "f16", "bf16"] as const) {
  for (const transposed of [false, true]) {
    gpuTest(`K5 lora_merge ${dtype}${transposed ? ", transposed" : ""}: W + s·B·A`, async () => {
      for (const n of [
        { in: 1, out: 1, r: 1 },
        { in: 3, out: 5, r: 2 },
        { in: 64, out: 33, r: 8 },
        { in: 65, out: 7, r: 16 },
        { in: 40, out: 24, r: 3 },
      ]) {
        const shape = transposed ? [n.in, n.out] : [n.out, n.in];
        const gain = n.r % 2 === 0 ? randomValues(n.out, 4) : null;
        // What the type holds, as the GPU sees it.
        const W = decode(encode(randomValues(n.in * n.out, 1), dtype), dtype);
        const [A, B] = [randomValues(n.r * n.in, 2), randomValues(n.out * n.r, 3)];
        const weight = tensor(W, shape, dtype);
        loraMergeInto(weight, tensor(A, [n.r, n.in]), tensor(B, [n.out, n.r]), 0.5, {
          transposed,
          ...(gain ? { gain: tensor(gain) } : {}),
        });
        const expected = reference.loraMerge(Float64Array.from(W), A, B, n, 0.5, transposed, gain);
        const got = await weight.data();
        close(got, expected, dtype === "f32" ? tolerance("f32", n.r) : ULP[dtype], `[${shape}]`);
        if (dtype === "f32") continue;
        // Rounded as the codec rounds, but where f32 and float64 sums fall on two sides of a tie.
        const rounded = decode(encode(expected, dtype), dtype);
        const other = got.filter((v, i) => v !== rounded[i]).length;
        is(other <= got.length / 100, true, `${other} of ${got.length} are rounded elsewhere`);
      }
    });
  }
}

/** Half a unit in the last place of numbers of size 1 to 2. */
const ULP = { f16: 2 ** -11, bf16: 2 ** -8 };

gpuTest("K5 lora_merge: errors change nothing, a rank of 0 among them", async () => {
  const W = zeros([4, 3]);
  throwsLike(
    () => loraMergeInto(W, zeros([2, 4]), zeros([4, 2]), 1),
    "ShapeError",
    "lora_merge: a must be [r, in] = [2, 3]",
  );
  throwsLike(
    () => loraMergeInto(W, zeros([2, 3]), zeros([3, 2]), 1),
    "ShapeError",
    "lora_merge: b must be [out, r] = [4, 2]",
  );
  throwsLike(
    () => loraMergeInto(W, zeros([0, 3]), zeros([4, 0]), 1),
    "ShapeError",
    "lora_merge: a must be [r, in], r > 0, got [0, 3]",
  );
  throwsLike(
    () => loraMergeInto(W, zeros([2, 3]), zeros([4, 2]), 1, { gain: zeros([3]) }),
    "ShapeError",
    "lora_merge: gain must be [out] = [4]",
  );
  throwsLike(
    () => loraMergeInto(zeros([4, 3], "i32"), zeros([2, 3]), zeros([4, 2]), 1),
    "DTypeError",
    "lora_merge: weight must be f32 or f16 or bf16",
  );
  close(await W.data(), new Float64Array(12), 0, "W");
});

runTests();
