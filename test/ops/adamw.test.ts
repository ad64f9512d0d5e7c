import { equal } from "uvu/assert";
import { adamwStep } from "../../src/kernels/adamw.ts";
import { ones, tensor, zeros } from "../../src/tensor/create.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import { type AdamWOptions, adamw } from "../reference/adamw.ts";

const f32 = (x: Float64Array) => Float64Array.from(x, Math.fround);

const cases: AdamWOptions[] = [
  { lr: 1e-3 },
  { lr: 0.1, betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0 },
  { lr: 3e-2, betas: [0, 0.5], eps: 1e-6, weightDecay: 0.5 },
];

for (const options of cases) {
  gpuTest(`adamw ${JSON.stringify(options)}: ten steps against float64`, async () => {
    for (const n of [4, 8, 64, 1000, 4100]) {
      // A clip factor that f32 holds exactly.
      const [factor, start] = [0.25, randomValues(n, 1)];
      let expected: ReturnType<typeof adamw> = {
        parameter: start,
        m: new Float64Array(n),
        v: new Float64Array(n),
      };
      const [parameter, m, v] = [tensor(start), zeros([n]), zeros([n])];
      const clip = tensor([factor]);
      const { lr, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
      for (let step = 1; step <= 10; step++) {
        const g = randomValues(n, 10 + step, 4);
        expected = adamw(
          expected.parameter,
          g.map((x) => x * factor),
          expected.m,
          expected.v,
          step,
          options,
        );
        adamwStep(
          { parameter, gradient: tensor(g), m, v, clip },
          { lr, betas, eps, weightDecay, step },
        );
      }
      const bound = tolerance("f32", 10);
      close(await m.data(), expected.m, bound, `m of ${n}`);
      close(await v.data(), expected.v, bound, `v of ${n}`);
      close(await parameter.data(), expected.parameter, bound, `parameter of ${n}`);
    }
  });
}

gpuTest("adamw: a learning rate of 0 changes no bit", async () => {
  const start = randomValues(64, 3);
  const [parameter, m, v] = [tensor(start), zeros([64]), zeros([64])];
  const numbers = { lr: 0, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.1, step: 1 };
  adamwStep({ parameter, gradient: ones([64]), m, v, clip: ones([1]) }, numbers);
  equal([...(await parameter.data())], [...f32(start)]);
});

gpuTest("adamw: refuses arrays of other sizes", () => {
  const x = zeros([8]);
  const numbers = { lr: 1, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0, step: 1 };
  throwsLike(
    () => adamwStep({ parameter: x, gradient: zeros([4]), m: x, v: x, clip: x }, numbers),
    "ShapeError",
    "adamw_step: gradient must be [8], got [4]",
  );
});

runTests();
