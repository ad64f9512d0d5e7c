// Every kind of adapter on a base of every type: one layer's result and gradients against differences in float64.
import { equal, is } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast } from "../../src/autograd/ops/index.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { decomposes } from "../../src/lora/decompose.ts";
import { addDecomposedLora, addLora } from "../../src/lora/lora.ts";
import { Linear } from "../../src/nn/layers.ts";
import { Module } from "../../src/nn/module.ts";
import { copyStorage } from "../../src/nn/optim/arena.ts";
import { parameter, quantize, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { isQuantized } from "../../src/tensor/quantized.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";

const [IN, OUT, ROWS, R] = [64, 10, 3, 3];

class Net extends Module {
  inner = new Linear(IN, OUT);
  forward(x: Tensor): Tensor {
    return this.inner.call(x);
  }
}

const TYPES = ["f32", "f16", "bf16", "int8", "nf4"] as const;
const VARIANTS: Readonly<Record<string, LoraConfig>> = {
  LoRA: {}, // LoRA+ too: it differs in the optimiser's rates alone
  rsLoRA: { use_rslora: true },
  DoRA: { use_dora: true },
  "DoRA, rsLoRA": { use_dora: true, use_rslora: true },
  lora_bias: { lora_bias: true },
  "bias: lora_only": { bias: "lora_only" },
  PiSSA: { init_lora_weights: "pissa" },
  OLoRA: { init_lora_weights: "olora" },
};

/** What the layer computes from, as float64. */
interface Parts {
  x: Float64Array;
  lora_A: Float64Array;
  lora_B: Float64Array;
  lora_bias?: Float64Array;
  lora_magnitude_vector?: Float64Array;
  bias: Float64Array;
}

/** W + s·B·A. */
function merged(W: Float64Array, { lora_A: A, lora_B: B }: Parts, s: number): Float64Array {
  return W.map((w, at) => {
    const [o, i] = [Math.floor(at / IN), at % IN];
    let sum = 0;
    for (let j = 0; j < R; j++) sum += B[o * R + j]! * A[j * IN + i]!;
    return w + s * sum;
  });
}

const rowNorms = (W: Float64Array) =>
  Float64Array.from({ length: OUT }, (_, o) => Math.hypot(...W.subarray(o * IN, (o + 1) * IN)));

/** x·(W + s·B·A)ᵀ times m over the rows' lengths, which count as constants, plus the biases. */
function forward(W: Float64Array, norms: Float64Array, parts: Parts, s: number): Float64Array {
  const { x, bias, lora_bias: b, lora_magnitude_vector: m } = parts;
  const own = merged(W, parts, s);
  return Float64Array.from({ length: ROWS * OUT }, (_, at) => {
    const [row, o] = [Math.floor(at / OUT), at % OUT];
    let sum = 0;
    for (let i = 0; i < IN; i++) sum += x[row * IN + i]! * own[o * IN + i]!;
    return sum * (m ? m[o]! / norms[o]! : 1) + bias[o]! + (b ? s * b[o]! : 0);
  });
}

async function wide(t: Tensor): Promise<Float64Array> {
  return Float64Array.from(await t.data());
}

/** Moves an adapter's tensors away from their start; PiSSA's and OLoRA's a little. */
async function move(p: Tensor, seed: number): Promise<void> {
  const [before, step] = [await p.data(), randomValues(p.size, seed, 0.3)];
  const moved = tensor(Float32Array.from(before, (v, i) => v + step[i]!), p.shape); // biome-ignore format: one line
  copyStorage(moved.storage, p.storage, p.bytes);
}

for (const type of TYPES) {
  for (const [name, config] of Object.entries(VARIANTS)) {
    const takes = decomposes(config.init_lora_weights ?? true);
    if (takes && isQuantized(type)) continue; // refused: see quantized.test.ts
    gpuTest(`M1 K2 ${name} on ${type}: first step, result and gradients in float64`, async () => {
      manualSeed(3);
      using net = new Net();
      const { inner } = net;
      const stored = isQuantized(type) ? await quantize(inner.weight, type) : noGrad(() => cast(inner.weight, type)); // biome-ignore format: one line
      if (type !== "f32") inner.weight = stored.persist();
      const x = parameter(tensor(randomValues(ROWS * IN, 7), [ROWS, IN]));
      const before = await noGrad(() => net.call(x)).data();
      const all: LoraConfig = { r: R, lora_alpha: 4, target_modules: ["inner"], ...config };
      const lora = takes ? await addDecomposedLora(net, all) : addLora(net, all);
      // What PiSSA leaves in a base of 16 bits is rounded to them.
      const exact = takes ? { f32: 1e-6, f16: 2e-3, bf16: 2e-2, int8: 0, nf4: 0 }[type] : 1e-6;
      close(await noGrad(() => net.call(x)).data(), before, exact, "M1: the base's result");
      for (const [i, p] of lora.parameters().entries()) await move(p, 20 + i);

      const layer = lora.layers.get("inner")!;
      const update = layer.active[0]!;
      const s = update.scaling;
      const W = await wide(layer.base_layer.weight);
      const parts: Parts = {
        x: await wide(x),
        bias: await wide((layer.base_layer as Linear).bias!),
        lora_A: await wide(update.lora_A),
        lora_B: await wide(update.lora_B),
      };
      for (const key of ["lora_bias", "lora_magnitude_vector"] as const) {
        const t = update[key];
        if (t) parts[key] = await wide(t);
      }
      const norms = rowNorms(merged(W, parts, s));
      const y = net.call(x);
      close(await y.data(), forward(W, norms, parts, s), 2e-6, "y");
      const dy = randomValues(ROWS * OUT, 9);
      backward(y, { gradient: tensor(dy, [ROWS, OUT]) });

      const trained: [keyof Parts, Tensor][] = [["x", x], ...[...update.namedParameters()].map(([key, t]) => [key, t] as [keyof Parts, Tensor])]; // biome-ignore format: one line
      if (config.bias) trained.push(["bias", (layer.base_layer as Linear).bias!]);
      is(trained.length, 1 + lora.parameters().length);
      for (const [key, t] of trained) {
        const values = parts[key]!;
        const differences = values.map((v, i) => {
          const at = (to: number) => {
            values[i] = to;
            return forward(W, norms, parts, s).reduce((sum, out, j) => sum + out * dy[j]!, 0);
          };
          const slope = (at(v + 1e-4) - at(v - 1e-4)) / 2e-4; // exact: it is linear in each
          values[i] = v;
          return slope;
        });
        close(await t.grad!.data(), differences, 5e-6, `gradient of ${key}`);
      }
      is(layer.base_layer.weight.grad, null);
      x.grad!.dispose();
      x.dispose();
    });
  }
}

gpuTest("a rank that the device cannot hold is refused, and the model is as it was", () => {
  using net = new Net();
  const config = { r: 2 ** 31, target_modules: ["inner"] };
  throwsLike(() => addLora(net, config), "LimitError", "lora: r of inner must be at most", "2147483648"); // biome-ignore format: one line
  const lora = addLora(net, { r: 2, target_modules: ["inner"] });
  throwsLike(() => lora.addAdapter("b", config), "LimitError", "lora: r of inner must be at most");
  equal(lora.adapters, ["default"]);
  lora.undo();
  equal(
    [...net.namedParameters()].map(([path, p]) => [path, p.requiresGrad]),
    [
      ["inner.weight", true],
      ["inner.bias", true],
    ],
  );
});

runTests();
