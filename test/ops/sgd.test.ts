import { sgdStep } from "../../src/kernels/sgd.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import { type SgdOptions, sgd } from "../reference/sgd.ts";

const cases: SgdOptions[] = [
  { lr: 0.1 },
  { lr: 0.1, weightDecay: 0.3 },
  { lr: 0.05, momentum: 0.9 },
  { lr: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.1 },
];

for (const options of cases) {
  gpuTest(`sgd ${JSON.stringify(options)}: ten steps against float64`, async () => {
    const { lr, momentum = 0, nesterov = false, weightDecay = 0 } = options;
    for (const n of [4, 8, 64, 1000, 4100]) {
      const [factor, start] = [0.5, randomValues(n, 2)];
      let expected: ReturnType<typeof sgd> | null = null;
      const parameter = tensor(start);
      const velocity = momentum > 0 ? zeros([n]) : undefined;
      const clip = tensor([factor]);
      for (let step = 1; step <= 10; step++) {
        const g = randomValues(n, 20 + step, 2);
        const clipped = g.map((x) => x * factor);
        expected = sgd(expected?.parameter ?? start, clipped, expected?.velocity ?? null, options);
        sgdStep(
          { parameter, gradient: tensor(g), velocity, clip },
          { lr, momentum, nesterov, weightDecay },
        );
      }
      const bound = tolerance("f32", 10);
      close(await parameter.data(), expected!.parameter, bound, `parameter of ${n}`);
      if (velocity) close(await velocity.data(), expected!.velocity, bound, `velocity of ${n}`);
    }
  });
}

gpuTest("sgd: refuses arrays of other sizes", () => {
  const x = zeros([8]);
  const numbers = { lr: 1, momentum: 0.9, nesterov: false, weightDecay: 0 };
  throwsLike(
    () => sgdStep({ parameter: x, gradient: zeros([4]), clip: x }, numbers),
    "ShapeError",
    "sgd_step: gradient must be [8], got [4]",
  );
  throwsLike(
    () => sgdStep({ parameter: x, gradient: zeros([8]), velocity: zeros([4]), clip: x }, numbers),
    "ShapeError",
    "sgd_step: velocity must be [8], got [4]",
  );
});

runTests();
