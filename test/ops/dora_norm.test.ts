import { equal } from "uvu/assert";
import { doraNorm } from "../../src/kernels/dora_norm.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { decode, encode } from "../../src/tensor/dtype.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/dora_norm.ts";

const SIZES = [
  { in: 1, out: 1, r: 1 },
  { in: 3, out: 5, r: 2 },
  { in: 4, out: 4, r: 1 },
  { in: 64, out: 36, r: 8 },
  { in: 68, out: 132, r: 3 },
  { in: 65, out: 7, r: 16 },
  { in: 200, out: 64, r: 33 },
];

for (const dtype of ["f32", "f16", "bf16"] as const) {
  for (const transposed of [false, true]) {
    gpuTest(
      `dora_norm ${dtype}${transposed ? ", transposed" : ""}: ‖W + s·B·A‖ by rows`,
      async () => {
        for (const n of SIZES) {
          const W = decode(encode(randomValues(n.in * n.out, 1), dtype), dtype);
          const [A, B] = [randomValues(n.r * n.in, 2), randomValues(n.out * n.r, 3)];
          const weight = tensor(W, transposed ? [n.in, n.out] : [n.out, n.in], dtype);
          const [a, b] = [tensor(A, [n.r, n.in]), tensor(B, [n.out, n.r])];
          const got = await doraNorm(weight, a, b, -0.5, { transposed }).data();
          const expected = reference.doraNorm(Float64Array.from(W), A, B, n, -0.5, transposed);
          close(got, expected, tolerance("f32", n.r), `[${weight.shape}], r ${n.r}`);
          equal(
            await doraNorm(weight, a, b, -0.5, { transposed }).data(),
            got,
            "K7: the same bits again",
          );
        }
      },
    );
  }
}

gpuTest("dora_norm: rows longer than one loop may be", async () => {
  for (const [transposed, inner] of [
    [true, 60_000],
    [false, 4 * 60_000],
    [true, 60_001],
  ] as const) {
    // biome-ignore format: one line
    const n = { in: inner, out: 4, r: 8 };
    const [W, A, B] = [n.in * n.out, n.r * n.in, n.out * n.r].map((size, i) =>
      randomValues(size, i + 1),
    );
    const shape = transposed ? [n.in, n.out] : [n.out, n.in];
    const got = doraNorm(tensor(W!, shape), tensor(A!, [n.r, n.in]), tensor(B!, [n.out, n.r]), 1, {
      transposed,
    });
    const expected = reference.doraNorm(W!, A!, B!, n, 1, transposed);
    close(await got.data(), expected, 1e-5, `[${shape}]`);
  }
});

gpuTest("dora_norm: errors", () => {
  const W = zeros([4, 3]);
  throwsLike(
    () => doraNorm(W, zeros([2, 4]), zeros([4, 2]), 1),
    "ShapeError",
    "dora_norm: a must be [r, in] = [2, 3]",
  );
  throwsLike(
    () => doraNorm(W, zeros([2, 3]), zeros([3, 2]), 1),
    "ShapeError",
    "dora_norm: b must be [out, r] = [4, 2]",
  );
  throwsLike(
    () => doraNorm(zeros([4]), zeros([2, 3]), zeros([3, 2]), 1),
    "ShapeError",
    "weight must be [out, in]",
  );
  throwsLike(
    () => doraNorm(zeros([4, 3], "i32"), zeros([2, 3]), zeros([4, 2]), 1),
    "DTypeError",
    "weight must be f32",
  );
});

runTests();
