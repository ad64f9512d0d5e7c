// What a device does at the sizes of small language models: products, sums, a LoRA layer, a step, generation.
import { backward } from "../../autograd/backward.ts";
import { add, linear, loraLinear, matmul, mul } from "../../autograd/ops/index.ts";
import type { Gpu } from "../../gpu/device.ts";
import { addLora } from "../../lora/lora.ts";
import { LlamaForCausalLM } from "../../nn/llama.ts";
import { parameter, randn } from "../../tensor/create.ts";
import { manualSeed, randomState, setRandomState } from "../../tensor/philox.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { generationSpeed, trainingSpeed } from "./speeds.ts";
import { timed } from "./timed.ts";

export interface DeviceRow {
  name: string;
  /** Of one run: the median. */
  ms: number | null;
  /** Half the range between the quartiles as a share of it. */
  spread: number | null;
  gflops: number | null;
  gbytesPerSecond: number | null;
  tokensPerSecond: number | null;
}

export interface DeviceBenchOptions {
  /** For each row, beside what compiles. Default 1. */
  seconds?: number;
  /** Sizes of a few seconds, for slow devices. Default false. */
  quick?: boolean;
  onRow?: (row: DeviceRow, done: number) => void;
}

interface Sizes {
  /** Tokens and width of the products and the layer. */
  rows: number;
  width: number;
  /** Numbers of the sum. */
  elements: number;
  /** Of the model, a Llama with 4 heads. */
  layers: number;
  hidden: number;
  /** Of its training step. */
  batch: number;
  length: number;
}

const USUAL: Sizes = { rows: 512, width: 768, elements: 2 ** 22, layers: 4, hidden: 256, batch: 8, length: 128 }; // biome-ignore format: one line
const QUICK: Sizes = { rows: 64, width: 128, elements: 2 ** 18, layers: 2, hidden: 64, batch: 2, length: 32 }; // biome-ignore format: one line
const R = 16;
/** How many rows there are. */
export const DEVICE_ROWS = 7;

/** The rows, one after the other. */
export async function benchDevice(
  gpu: Gpu,
  { seconds = 1, quick = false, onRow }: DeviceBenchOptions = {},
): Promise<DeviceRow[]> {
  const before = randomState();
  manualSeed(1);
  try {
    const rows: DeviceRow[] = [];
    for (const work of cases(gpu, seconds, quick ? QUICK : USUAL)) {
      rows.push(await work());
      onRow?.(rows.at(-1)!, rows.length);
    }
    return rows;
  } finally {
    setRandomState(before);
  }
}

function* cases(gpu: Gpu, seconds: number, sizes: Sizes): Generator<() => Promise<DeviceRow>> {
  const { rows, width, elements } = sizes;
  const [x, w, a, b] = [
    () => randn([rows, width]),
    () => randn([width, width], 0, 0.03),
    () => parameter(randn([R, width], 0, 0.03)),
    () => parameter(randn([width, R], 0, 0.03)),
  ];
  const gemm = 2 * rows * width * width;
  const lowRank = 4 * rows * width * R;
  const op = (
    name: string,
    counts: { flops?: number; bytes?: number },
    make: () => Tensor[],
    run: (tensors: Tensor[]) => unknown,
  ) => {
    return async (): Promise<DeviceRow> => {
      using _ = scope();
      const tensors = make();
      const once = async () => {
        using _ = scope();
        run(tensors);
        await gpu.sync();
      };
      const { ms, spread } = await timed(once, seconds, 2);
      for (const t of tensors) {
        t.grad?.dispose();
        t.dispose(); // parameters outlive scopes
      }
      return {
        name,
        ms,
        spread,
        gflops: counts.flops ? counts.flops / ms / 1e6 : null,
        gbytesPerSecond: counts.bytes ? counts.bytes / ms / 1e6 : null,
        tokensPerSecond: null,
      };
    };
  };
  yield op(`matmul ${rows}×${width}×${width}`, { flops: gemm }, () => [x(), w()], ([p, q]) => matmul(p!, q!, { transposeB: true })); // biome-ignore format: one line
  yield op(`add of ${elements} numbers`, { bytes: 12 * elements }, () => [randn([elements]), randn([elements])], ([p, q]) => add(p!, q!)); // biome-ignore format: one line
  // Forward, and the gradients of x, A and B.
  const through = { flops: 2 * gemm + 3 * lowRank };
  const inputs = () => [parameter(x()), w(), a(), b(), x()];
  yield op(`lora_linear r ${R}, fused, forward and backward`, through, inputs, ([p, q, A, B, dy]) =>
    backward(loraLinear(p!, q!, null, A!, B!, { scale: 2 }), { gradient: dy! }),
  );
  yield op(`lora_linear r ${R}, plain ops`, through, inputs, ([p, q, A, B, dy]) =>
    backward(add(linear(p!, q!), mul(linear(linear(p!, A!), B!), 2)), { gradient: dy! }),
  );
  yield* ofModel(seconds, sizes);
}

function* ofModel(seconds: number, sizes: Sizes): Generator<() => Promise<DeviceRow>> {
  const { layers, hidden, batch, length } = sizes;
  const make = () =>
    new LlamaForCausalLM({
      vocab_size: 512,
      hidden_size: hidden,
      intermediate_size: Math.round((8 * hidden) / 3 / 16) * 16,
      num_hidden_layers: layers,
      num_attention_heads: 4,
      max_position_embeddings: 256,
    });
  const row = (name: string, figures: Partial<DeviceRow>): DeviceRow => ({
    ...{ name, ms: null, spread: null, gflops: null, gbytesPerSecond: null, tokensPerSecond: null },
    ...figures,
  });
  yield async () => {
    using model = make();
    addLora(model, { r: 8, target_modules: "all-linear" });
    const { ms, spread, tokensPerSecond } = await trainingSpeed(model, batch, length, 2 * seconds);
    return row(`training step, LoRA r 8, ${batch} × ${length} tokens`, { ms, spread, tokensPerSecond }); // biome-ignore format: one line
  };
  for (const prompts of [1, 8]) {
    yield async () => {
      using model = make();
      const { tokensPerSecond } = await generationSpeed(model, prompts, 2 * seconds);
      return row(`generation, ${prompts === 1 ? "one prompt" : `${prompts} prompts`}`, { tokensPerSecond }); // biome-ignore format: one line
    };
  }
}
