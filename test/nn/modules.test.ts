// Attention and the feed-forward parts by themselves: against float64, with a cache, under LoRA.
import { is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { slice, sum } from "../../src/autograd/ops/index.ts";
import { ropeTables } from "../../src/kernels/rope.ts";
import { addLora } from "../../src/lora/lora.ts";
import { Attention, type AttentionOptions, GatedMLP, KVCache, MLP } from "../../src/nn/index.ts";
import { Module } from "../../src/nn/module.ts";
import { randn } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, runTests, theGpu, throwsLike, tolerance } from "../gpu.ts";
import { attention } from "../reference/attention.ts";
import { gelu } from "../reference/gelu.ts";
import { matmul } from "../reference/matmul.ts";
import { rope } from "../reference/rope.ts";
import { swiglu } from "../reference/swiglu.ts";

const [B, T, D] = [2, 7, 12];

type Numbers = ArrayLike<number>;

/** x·weightᵀ (+ bias) in float64, by the parameters' names. x: [rows, in]. */
async function reader(module: Module) {
  const values = new Map<string, Numbers>();
  for (const [name, p] of module.namedParameters()) values.set(name, await p.data());
  const shapes = new Map([...module.namedParameters()].map(([name, p]) => [name, p.shape]));
  return (name: string, x: Numbers, transposeB = true): Float64Array => {
    const [weight, shape] = [values.get(`${name}.weight`)!, shapes.get(`${name}.weight`)!];
    const K = shape[transposeB ? 1 : 0]!;
    const y = Float64Array.from(matmul(x, [x.length / K, K], weight, shape, { transposeB }).data);
    const bias = values.get(`${name}.bias`);
    return bias ? y.map((v, i) => v + bias[i % bias.length]!) : y;
  };
}

async function checkAttention(heads: number, options: AttentionOptions, rotated: boolean) {
  const layer = new Attention(D, heads, { std: 0.3, ...options });
  const [G, d] = [options.kvHeads ?? heads, options.headDim ?? D / heads];
  const x = randn([B, T, D]);
  const context = rotated ? { angles: { ...ropeTables(16, d), offset: 3 } } : {};
  const got = await noGrad(() => layer.call(x, context)).data();
  const [apply, values] = [await reader(layer), await x.data()];
  const turned = (y: Float64Array, n: number) =>
    rotated && options.rotates !== false ? rope(y, [B, T, n, d], { offset: 3 }) : y;
  const [q, k] = [turned(apply("q_proj", values), heads), turned(apply("k_proj", values), G)];
  const { scale, window } = options;
  const mixed = attention(q, [B, T, heads, d], k, apply("v_proj", values), [B, T, G, d], {
    ...(scale === undefined ? {} : { scale }),
    ...(window ? { window } : {}),
  });
  close(got, apply("o_proj", mixed), tolerance("f32", 4 * D), JSON.stringify(options));
}

gpuTest(
  "Attention is float64's: heads, grouped heads, rotation, biases, window, scale",
  async () => {
    await checkAttention(3, {}, false);
    await checkAttention(2, { bias: true, outputBias: true }, true);
    await checkAttention(6, { kvHeads: 2, headDim: 4, window: 3, scale: 0.7 }, true);
    await checkAttention(2, { rotates: false }, true);
  },
);

gpuTest("Attention with a cache, token by token, is the same as all at once", async () => {
  const layer = new Attention(D, 3, { std: 0.3, headNormEps: 1e-6 });
  const x = randn([B, T, D]);
  const tables = ropeTables(T, 4);
  const whole = await noGrad(() => layer.call(x, { angles: tables })).data();
  using cache = new KVCache({ layers: 1, batch: B, maxLength: T, kvHeads: 3, headDim: 4 });
  const parts: Float32Array[] = [];
  for (let t = 0; t < T; t++) {
    const token = slice(x, 1, t, t + 1);
    const y = noGrad(() => layer.call(token, { cache, angles: { ...tables, offset: t } }));
    cache.advance(1);
    parts.push((await y.data()) as Float32Array);
  }
  for (let b = 0; b < B; b++) {
    const row = parts.flatMap((part) => [...part.slice(b * D, (b + 1) * D)]);
    close(row, [...whole.slice(b * T * D, (b + 1) * T * D)], tolerance("f32", 4 * D), `row ${b}`);
  }
});

gpuTest("GatedMLP and MLP are float64's", async () => {
  const x = randn([B, T, D]);
  const values = await x.data();
  const gated = new GatedMLP(D, 20, { std: 0.3, bias: true });
  const g = await reader(gated);
  const inner = swiglu(g("gate_proj", values), g("up_proj", values));
  const bound = tolerance("f32", 32);
  close(await noGrad(() => gated.call(x)).data(), g("down_proj", inner), bound, "GatedMLP");
  const relu = new GatedMLP(D, 20, { std: 0.3, activation: "relu" });
  const r = await reader(relu);
  const up = r("up_proj", values);
  const product = r("gate_proj", values).map((v, i) => Math.max(v, 0) * up[i]!);
  close(await noGrad(() => relu.call(x)).data(), r("down_proj", product), bound, "relu");
  for (const [activation, form] of [
    ["gelu", "none"],
    ["gelu_tanh", "tanh"],
  ] as const) {
    const mlp = new MLP(D, 20, { std: 0.3, activation });
    const m = await reader(mlp);
    const y = m("c_proj", gelu(m("c_fc", values, false), form), false);
    close(await noGrad(() => mlp.call(x)).data(), y, bound, activation);
  }
});

/** A model of one's own, made of the public parts. */
class Block extends Module {
  attn = new Attention(D, 3, { kvHeads: 1 });
  mlp = new GatedMLP(D, 20);

  forward(x: Tensor): Tensor {
    return this.mlp.call(this.attn.call(x));
  }
}

gpuTest("LoRA finds the layers of a module of one's own, and trains nothing else", async () => {
  using block = new Block();
  const lora = addLora(block, { r: 2, target_modules: ["q_proj", "v_proj", "down_proj"] });
  is(lora.parameters().length, 6);
  backward(sum(block.call(randn([B, T, D]))));
  for (const [name, p] of block.namedParameters()) {
    is(p.grad !== null, name.includes("lora_"), name);
    p.grad?.dispose();
  }
});

gpuTest("sizes that do not fit are refused before anything is allocated", () => {
  const before = theGpu().stats().tensorsLive;
  throwsLike(
    () => new Attention(12, 5),
    "ValueError",
    "Attention: width must be a multiple of heads = 5, got 12",
  );
  throwsLike(
    () => new Attention(12, 4, { kvHeads: 3 }),
    "ValueError",
    "heads must be a multiple of kvHeads = 3, got 4",
  );
  throwsLike(
    () => new Attention(12, 4, { headDim: 1.5 }),
    "ValueError",
    "headDim must be a positive integer, got 1.5",
  );
  throwsLike(() => new Attention(0, 1), "ValueError", "width must be a positive integer, got 0");
  throwsLike(() => new GatedMLP(12, 0), "ValueError", "must be a positive integer, got 0");
  throwsLike(() => new MLP(12, -1), "ValueError", "must be a positive integer, got -1");
  is(theGpu().stats().tensorsLive, before);
  ok(new Attention(12, 5, { headDim: 2 }));
});

runTests();
