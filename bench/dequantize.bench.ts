// int8 and NF4 dequantised alone, and inside the products of a frozen linear layer, beside f32 and bf16.
import { backward } from "../src/autograd/backward.ts";
import { cast, linear, loraLinear } from "../src/autograd/ops/index.ts";
import { dequantize } from "../src/kernels/dequantize.ts";
import { parameter, quantize, randn } from "../src/tensor/create.ts";
import { isQuantized, QUANTIZED_TYPES } from "../src/tensor/quantized.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const SIDE = 768;
const TYPES = ["f32", "bf16", ...QUANTIZED_TYPES] as const;

async function weightAs(type: (typeof TYPES)[number]): Promise<Tensor> {
  const wide = randn([SIDE, SIDE]);
  return isQuantized(type) ? await quantize(wide, type) : cast(wide, type);
}

/** y and dx of a frozen layer, alone or under an adapter. */
function layer(rows: number, type: (typeof TYPES)[number], r: number) {
  return {
    name: `${r > 0 ? `lora r ${r}` : "linear"} ${type}, forward + dx ${rows}×${SIDE}×${SIDE}`,
    setup: async () => {
      const W = await weightAs(type);
      const x = parameter(randn([rows, SIDE]));
      const [A, B, dy] = [randn([r || 1, SIDE]), randn([SIDE, r || 1]), randn([rows, SIDE])];
      const forward = () => (r > 0 ? loraLinear(x, W, null, A, B) : linear(x, W));
      const run = () => {
        backward(forward(), { gradient: dy });
        x.grad?.dispose();
        x.grad = null;
      };
      return {
        run,
        flops: 4 * rows * SIDE * (SIDE + 2 * r),
        verify: () => looksAlive(forward()),
      };
    },
  };
}

bench("dequantize", [
  ...QUANTIZED_TYPES.map((type) => ({
    name: `${type} [${SIDE}, ${SIDE}]`,
    setup: async () => {
      const W = await weightAs(type);
      const run = () => dequantize(W);
      return { run, bytes: W.bytes + 4 * W.size, verify: () => looksAlive(run()) };
    },
  })),
  ...[1, 256].flatMap((rows) => TYPES.map((type) => layer(rows, type, 0))),
  ...TYPES.map((type) => layer(256, type, 8)),
]);
