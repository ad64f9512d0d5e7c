// The rungs from the plain kernels to the fast ones, each verified and timed: see docs/ladder.md.
import { readFileSync } from "node:fs";
import { backward } from "../src/autograd/backward.ts";
import { add, dropout, linear, loraLinear, matmul, mul } from "../src/autograd/ops/index.ts";
import { gpu } from "../src/gpu/device.ts";
import { kernel } from "../src/kernels/kernel.ts";
import { matmulForward } from "../src/kernels/matmul.ts";
import {
  forceMatmulVariant,
  type MatmulVariant,
  matmulVariants,
} from "../src/kernels/matmul_variant.ts";
import { setKernelPath } from "../src/kernels/path.ts";
import { parameter, randn } from "../src/tensor/create.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { equalsDot, looksAlive } from "./verify.ts";

const [T, K, N, r] = [512, 768, 768, 16];

function product(name: string, make: (a: Tensor, b: Tensor) => Tensor) {
  return {
    name: `${name}, NT ${T}×${K}×${N}`,
    setup: () => {
      const [a, b] = [randn([T, K]), randn([N, K])];
      const verify = () =>
        equalsDot(
          make(a, b),
          a,
          b,
          K,
          (k) => k,
          (k) => k,
        );
      return { run: () => make(a, b), flops: 2 * T * K * N, verify };
    },
  };
}

function variant(name: string, which: () => MatmulVariant) {
  return product(name, (a, b) => {
    forceMatmulVariant(which());
    try {
      return matmulForward(a, b, { transposeB: true });
    } finally {
      forceMatmulVariant(null);
    }
  });
}

const tile = kernel("ladder", readFileSync(new URL("ladder.tile.wgsl", import.meta.url), "utf8"));

/** The kernel for this device's class. */
function best(): MatmulVariant {
  const own = matmulVariants().find((v) => v.startsWith("subgroup"));
  return gpu().adapterClass === "gpu" ? "staged" : (own ?? "register");
}

bench("ladder matmul", [
  variant("1 naive", () => "naive"),
  product("2 tile in registers", (a, b) => {
    const y = Tensor.empty("ladder", [T, N], "f32");
    const groups = [Math.ceil(N / 32), Math.ceil(T / 32)] as const;
    tile.run("ladder_tile", { tensors: { a, b, y }, params: { M: T, N, K }, groups });
    return y;
  }),
  variant("3 vec4 loads", () => "register"),
  variant("4 made for the device", best),
]);

type Layer = { x: Tensor; W: Tensor; A: Tensor; B: Tensor };

/** A low-rank layer, forward and backward of x, A and B, W frozen, dropout 0.1. */
function layer(name: string, path: "plain" | "auto", forward: (t: Layer) => Tensor) {
  const under = <R>(fn: () => R): R => {
    setKernelPath(path);
    try {
      return fn();
    } finally {
      setKernelPath("auto");
    }
  };
  return {
    name: `${name}, ${T}×${K}×${N} r ${r}, forward + backward`,
    setup: () => {
      const [x, A, B] = [randn([T, K]), randn([r, K]), randn([N, r])].map((t) => parameter(t));
      const t = { x: x!, A: A!, B: B!, W: randn([N, K]) };
      const dy = randn([T, N]);
      const run = () =>
        under(() => {
          backward(forward(t), { gradient: dy });
          for (const p of [t.x, t.A, t.B]) {
            p.grad?.dispose();
            p.grad = null;
          }
        });
      const verify = () => looksAlive(under(() => forward(t)));
      return { run, flops: 4 * T * K * N + 6 * T * r * (K + N), verify };
    },
  };
}

function composed({ x, W, A, B }: Layer): Tensor {
  const S = matmul(dropout(x, 0.1), A, { transposeB: true });
  return add(linear(x, W), mul(matmul(S, B, { transposeB: true }), 2));
}

bench("ladder lora_linear", [
  layer("1 plain ops, naive products", "plain", composed),
  layer("2 plain ops, fast products", "auto", composed),
  layer("3 fused", "auto", ({ x, W, A, B }) =>
    loraLinear(x, W, null, A, B, { scale: 2, dropout: 0.1 }),
  ),
]);
