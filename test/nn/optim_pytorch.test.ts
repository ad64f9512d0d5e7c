// Optimisers, clipping and schedules against PyTorch and Transformers: test/fixtures/optim.json.
import { readFileSync } from "node:fs";
import { is } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { mul, sum } from "../../src/autograd/ops/index.ts";
import {
  AdamW,
  clipGradNorm,
  cosineSchedule,
  linearSchedule,
  type Optimizer,
  Scheduler,
  SGD,
} from "../../src/nn/optim/index.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

interface Fixture {
  optimizers: {
    optimizer: "adamw" | "sgd";
    options: {
      lr: number;
      betas?: [number, number];
      eps?: number;
      momentum?: number;
      nesterov?: boolean;
      weight_decay?: number;
    };
    start: number[];
    gradients: number[][];
    parameters: number[][];
  }[];
  clip_grad_norm: { max_norm: number; gradients: number[][]; norm: number; clipped: number[][] }[];
  schedules: {
    schedule: "cosine" | "linear";
    warmup: number;
    total: number;
    num_cycles?: number;
    factors: number[];
  }[];
}

const fixture: Fixture = JSON.parse(readFileSync(fixtureFolder("optim.json"), "utf8"));

/** Gives p the gradient g: d/dp Σ p·g. */
function giveGradient(p: Tensor, g: readonly number[]): void {
  backward(sum(mul(p, tensor(g))));
}

for (const c of fixture.optimizers) {
  gpuTest(`${c.optimizer} ${JSON.stringify(c.options)}: PyTorch's five steps`, async () => {
    const { weight_decay: weightDecay = 0, ...options } = c.options;
    const p = parameter(tensor(c.start));
    const make = { adamw: AdamW, sgd: SGD }[c.optimizer];
    const optimizer: Optimizer = new make([p], { ...options, weightDecay });
    for (const [step, g] of c.gradients.entries()) {
      using _ = scope();
      giveGradient(p, g);
      optimizer.step();
      optimizer.zeroGrad();
      close(await p.data(), c.parameters[step]!, 1e-6, `after step ${step + 1}`);
    }
    optimizer.dispose();
    p.dispose();
  });
}

for (const c of fixture.clip_grad_norm) {
  gpuTest(`clipGradNorm to ${c.max_norm}: PyTorch's norm and gradients`, async () => {
    const parameters = c.gradients.map((g) => parameter(tensor(g.map(() => 0))));
    for (const [i, p] of parameters.entries()) giveGradient(p, c.gradients[i]!);
    const norm = await clipGradNorm(parameters, c.max_norm).item();
    close([norm], [c.norm], 1e-6, "norm");
    for (const [i, p] of parameters.entries()) {
      close(await p.grad!.data(), c.clipped[i]!, 1e-6, `gradient ${i + 1}`);
      p.grad!.dispose();
      p.dispose();
    }
  });
}

for (const { schedule, warmup, total, num_cycles: cycles, factors } of fixture.schedules) {
  gpuTest(`${schedule} schedule ${warmup} of ${total}: Transformers' fifty factors`, () => {
    const make = schedule === "cosine" ? cosineSchedule(warmup, total, cycles) : null;
    const factor = make ?? linearSchedule(warmup, total);
    const optimizer = new SGD([parameter(tensor([1]))], { lr: 0.5 });
    const scheduler = new Scheduler(optimizer, factor);
    is(factors.length, 50);
    for (const [step, want] of factors.entries()) {
      close([factor(step)], [want], 1e-12, `factor of step ${step}`);
      close([optimizer.lr], [0.5 * want], 1e-12, `rate of step ${step}`);
      scheduler.step();
    }
    optimizer.dispose();
  });
}

runTests();
