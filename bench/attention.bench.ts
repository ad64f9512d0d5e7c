import { backward } from "../src/autograd/backward.ts";
import { add, attention, matmul, mul, permute, softmax } from "../src/autograd/ops/index.ts";
import {
  attentionBackwardKV,
  attentionBackwardQ,
  attentionBackwardRows,
  attentionForward,
} from "../src/kernels/attention.ts";
import {
  type AttentionOptions,
  type AttentionPlan,
  attentionPlan,
} from "../src/kernels/attention_plan.ts";
import { parameter, randn, tensor } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { type BenchCase, bench } from "./harness.ts";

interface Sizes {
  B: number;
  T: number;
  S: number;
  H: number;
  Hkv: number;
  d: number;
}

/** Causal attention by plain ops: the rung below. For H = Hkv and T = S. */
function plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor): Tensor {
  const [qs, ks, vs] = [q, k, v].map((x) => permute(x, [0, 2, 1, 3])) as [Tensor, Tensor, Tensor];
  const scores = mul(matmul(qs, ks, { transposeB: true }), 1 / Math.sqrt(q.shape[3]!));
  return permute(matmul(softmax(add(scores, mask)), vs), [0, 2, 1, 3]);
}

function causalMask(T: number): Tensor {
  const values = Float32Array.from({ length: T * T }, (_, i) => (i % T > i / T ? -1e30 : 0));
  return tensor(values, [T, T]);
}

function inputs({ B, T, S, H, Hkv, d }: Sizes): { q: Tensor; k: Tensor; v: Tensor; dy: Tensor } {
  const [q, dy] = [randn([B, T, H, d]), randn([B, T, H, d])];
  return { q, k: randn([B, S, Hkv, d]), v: randn([B, S, Hkv, d]), dy };
}

/** What differs from plain causal attention, and the scores that it leaves. */
interface Seen {
  name: string;
  options: () => AttentionOptions;
  scores: number;
}

/** Operations of the visible half: two products forward; backward three for dq and four for dk, dv. */
function flopsOf({ B, T, S, H, d }: Sizes, products: number): number {
  return 2 * products * d * B * H * (T * (S - T) + (T * (T + 1)) / 2);
}

const nameOf = ({ B, T, S, H, Hkv, d }: Sizes) => `f32 B${B} T${T} S${S} H${H}/${Hkv} d${d}`;

function forwardCase(sizes: Sizes): BenchCase {
  return {
    name: `${nameOf(sizes)} forward`,
    setup: () => {
      const { q, k, v } = inputs(sizes);
      const bytes = 2 * q.bytes + k.bytes + v.bytes;
      return { run: () => attention(q, k, v), flops: flopsOf(sizes, 2), bytes };
    },
  };
}

function trainingCase(sizes: Sizes, how: "fused" | "plain ops"): BenchCase {
  return {
    name: `${nameOf(sizes)} forward and backward, ${how}`,
    setup: () => {
      const { q, k, v, dy } = inputs(sizes);
      const leaves = [q, k, v].map(parameter) as [Tensor, Tensor, Tensor];
      const mask = causalMask(sizes.T);
      const y = () => (how === "fused" ? attention(...leaves) : plain(...leaves, mask));
      const run = () => {
        backward(y(), { gradient: dy });
        for (const x of leaves) {
          x.grad?.dispose();
          x.grad = null;
        }
      };
      const verify = async () => {
        const got = await attention(q, k, v).data();
        const expected = await plain(q, k, v, mask).data();
        let worst = 0;
        for (const [i, x] of got.entries()) worst = Math.max(worst, Math.abs(x - expected[i]!));
        if (!(worst < 1e-4)) throw new Error(`attention differs from plain ops by ${worst}`);
      };
      return { run, flops: flopsOf(sizes, 9), verify };
    },
  };
}

function gradients(
  dy: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  y: Tensor,
  lse: Tensor,
  plan: AttentionPlan,
): Tensor[] {
  const stats = attentionBackwardRows(dy, y, lse, plan);
  const dq = attentionBackwardQ(dy, q, k, v, stats, plan);
  const { dk, dv } = attentionBackwardKV(dy, q, k, v, stats, plan);
  return [dq, dk, dv];
}

function backwardCase(sizes: Sizes): BenchCase {
  return {
    name: `${nameOf(sizes)} backward`,
    setup: () => {
      const { q, k, v, dy } = inputs(sizes);
      const plan = attentionPlan(q, k, v, {});
      const { y, lse } = attentionForward(q, k, v, plan);
      return { run: () => gradients(dy, q, k, v, y, lse, plan), flops: flopsOf(sizes, 7) };
    },
  };
}

const short: Sizes = { B: 8, T: 128, S: 128, H: 4, Hkv: 4, d: 64 };
const long: Sizes = { B: 1, T: 1024, S: 1024, H: 8, Hkv: 8, d: 64 };

const WINDOW = 128;
const { T } = long;
const LENGTH = T / 8;
const parts: Seen[] = [
  {
    name: `window ${WINDOW}`,
    options: () => ({ window: WINDOW }),
    scores: WINDOW * T - (WINDOW * (WINDOW - 1)) / 2,
  },
  {
    name: "8 packed sequences",
    options: () => {
      const starts = Int32Array.from({ length: T }, (_, i) => i - (i % LENGTH));
      return { starts: tensor(starts, [1, T]) };
    },
    scores: (8 * LENGTH * (LENGTH + 1)) / 2,
  },
];

function partialCases({ name, options, scores }: Seen): BenchCase[] {
  const flops = (products: number) => 2 * products * long.d * long.B * long.H * scores;
  const setup = () => {
    const { q, k, v, dy } = inputs(long);
    const plan = attentionPlan(q, k, v, options());
    return { q, k, v, dy, plan, ...attentionForward(q, k, v, plan) };
  };
  return [
    {
      name: `${nameOf(long)} ${name} forward`,
      setup: () => {
        const { q, k, v, plan } = setup();
        return { run: () => attentionForward(q, k, v, plan), flops: flops(2) };
      },
    },
    {
      name: `${nameOf(long)} ${name} backward`,
      setup: () => {
        const { q, k, v, dy, plan, y, lse } = setup();
        return { run: () => gradients(dy, q, k, v, y, lse, plan), flops: flops(7) };
      },
    },
  ];
}

bench("attention", [
  forwardCase(short),
  backwardCase(short),
  trainingCase(short, "fused"),
  trainingCase(short, "plain ops"),
  forwardCase(long),
  backwardCase(long),
  trainingCase(long, "fused"),
  trainingCase(long, "plain ops"),
  ...parts.flatMap(partialCases),
  forwardCase({ B: 1, T: 1, S: 512, H: 8, Hkv: 8, d: 64 }),
  forwardCase({ B: 4, T: 1, S: 512, H: 8, Hkv: 2, d: 64 }),
]);
