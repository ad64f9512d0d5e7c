// CausalLM.loss: through linear_cross_entropy where the head is one product, under an adapter or not; else through whole logits.
import { is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { crossEntropy, reshape } from "../../src/autograd/ops/index.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { AdamW, clipGradNorm } from "../../src/nn/optim/index.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, runTests, theGpu } from "../gpu.ts";

const [B, T, V] = [2, 40, 203]; // 80 rows in chunks of 64, and a ragged vocabulary

function llama(tied: boolean): CausalLM {
  return new LlamaForCausalLM({
    vocab_size: V,
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: T,
    tie_word_embeddings: tied,
  });
}

const gpt2 = (): CausalLM =>
  new GPT2LMHeadModel({ vocab_size: V, n_positions: T, n_embd: 24, n_layer: 2, n_head: 2 });

const gemma2 = (tied: boolean): CausalLM =>
  new LlamaForCausalLM({
    model_type: "gemma2",
    vocab_size: V,
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 12,
    hidden_activation: "gelu_pytorch_tanh",
    query_pre_attn_scalar: 12,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 3,
    max_position_embeddings: T,
    tie_word_embeddings: tied,
  });

const BODY: LoraConfig = { r: 4, lora_dropout: 0.1, target_modules: "all-linear" };
const HEAD: LoraConfig = { r: 3, lora_dropout: 0.2, target_modules: ["lm_head", "q_proj"] };

/** Adapters of the output head, whose logits need not be whole. */
const HEADS: Record<string, readonly LoraConfig[]> = {
  "an adapter of the head": [HEAD],
  "with lora_bias": [{ ...HEAD, lora_bias: true }],
  "two adapters of the head": [HEAD, { ...HEAD, r: 2, lora_alpha: 5, lora_dropout: 0 }],
  "a head that is trained whole": [
    { r: 2, target_modules: ["q_proj"], modules_to_save: ["lm_head"] },
  ],
};

const MODELS: Record<string, () => CausalLM> = {
  "llama, untied": () => llama(false),
  "llama, tied": () => llama(true),
  gpt2,
  "gemma 2, tied and capped": () => gemma2(true),
};

/** Tokens that can be learnt, the first of each window without a target. */
function batch(step: number): [ids: Tensor, targets: Tensor] {
  const token = (i: number) => (i * i + 3 * step) % V;
  const ids = Int32Array.from({ length: B * T }, (_, i) => token(i));
  const targets = Int32Array.from({ length: B * T }, (_, i) => (i % T === 0 ? -100 : token(i + 1)));
  return [tensor(ids, [B, T]), tensor(targets, [B, T])];
}

/** The losses of a run, and where it took the parameters. */
async function train(build: () => CausalLM, adapters: readonly LoraConfig[], steps: number) {
  manualSeed(3);
  const model = build();
  const [first, ...others] = adapters;
  if (first) {
    const lora = addLora(model, first, "0");
    for (const [i, config] of others.entries()) lora.addAdapter(`${i + 1}`, config);
    lora.setAdapter(lora.adapters);
  }
  const parameters = model.trainableParameters();
  const optimizer = new AdamW(parameters, { lr: first ? 1e-2 : 3e-3 });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    using _ = scope();
    const loss = model.loss(...batch(step % 4));
    backward(loss);
    clipGradNorm(optimizer, 1);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  const ends = (await Promise.all(parameters.map((p) => p.data()))).flatMap((p) => [...p]);
  optimizer.dispose();
  model.dispose();
  return { losses, ends };
}

/** Asserts that steps are those of the plain path, and that the loss falls by `least`. */
async function sameAsPlain(
  build: () => CausalLM,
  adapters: readonly LoraConfig[],
  { steps, least }: { steps: number; least: number },
): Promise<void> {
  const fast = await train(build, adapters, steps);
  setKernelPath("plain");
  const plain = await train(build, adapters, steps).finally(() => setKernelPath("auto"));
  // Over all four batches where there are steps enough: one alone, with what dropout does to it, is noise.
  const some = Math.min(4, steps / 2);
  const mean = (losses: readonly number[]) => losses.reduce((a, b) => a + b, 0) / losses.length;
  const fall = mean(plain.losses.slice(0, some)) - mean(plain.losses.slice(-some));
  ok(fall > least, `it learns: ${plain.losses}`);
  close(fast.losses, plain.losses, 1e-4, "losses");
  close(fast.ends, plain.ends, 2e-3, "parameters");
}

for (const [name, build] of Object.entries(MODELS)) {
  gpuTest(`${name}, all parameters: thirty steps are those of the plain path`, () =>
    sameAsPlain(build, [], { steps: 30, least: 0.3 }),
  );
  // An adapter of random weights learns little.
  gpuTest(`${name}, an adapter: thirty steps are those of the plain path`, () =>
    sameAsPlain(build, [BODY], { steps: 30, least: 0.05 }),
  );
}

for (const [what, adapters] of Object.entries(HEADS)) {
  gpuTest(`gemma 2, capped, ${what}: six steps are those of the plain path`, () =>
    sameAsPlain(() => gemma2(false), adapters, { steps: 6, least: 0.01 }),
  );
}

gpuTest(
  "loss: under an adapter the logits are never whole, and are what they are whole",
  async () => {
    manualSeed(4);
    const sizes = {
      vocab_size: 4096,
      hidden_size: 16,
      intermediate_size: 16,
      num_hidden_layers: 1,
    };
    const rest = {
      num_attention_heads: 1,
      max_position_embeddings: 256,
      tie_word_embeddings: false,
    };
    const model = new LlamaForCausalLM({ ...sizes, ...rest });
    const head = { r: 8, init_lora_weights: false, target_modules: ["lm_head"] };
    const saved = { r: 1, target_modules: ["q_proj"], modules_to_save: ["lm_head"] };
    const ids = tensor(
      Int32Array.from({ length: 512 }, (_, i) => (i * 31) % 4096),
      [2, 256],
    );
    const gpu = theGpu();
    const whole = 512 * 4096 * 4;
    for (const [name, config, isChunked] of [
      ["LoRA", head, true],
      ["a trained head", saved, true],
      ["DoRA", { ...head, use_dora: true }, false],
    ] as const) {
      using _ = scope();
      const lora = addLora(model, config);
      gpu.resetPeak();
      const before = gpu.stats().bytesLive;
      const loss = model.loss(ids, ids);
      backward(loss);
      const peak = gpu.stats().bytesPeak - before;
      is(peak < whole / 2, isChunked, `${name}: ${peak} bytes, whole logits take ${whole}`);
      const logits = noGrad(() => reshape(model.call(ids), [512, 4096]));
      const direct = await crossEntropy(logits, reshape(ids, [512])).item();
      close([await loss.item()], [direct], 1e-6, `${name}: loss`);
      lora.remove();
    }
    model.dispose();
  },
);

gpuTest(
  "loss: the logits are never whole, and a frozen head keeps no gradient of its weights",
  () => {
    const model = new GPT2LMHeadModel({
      vocab_size: 4096,
      n_positions: 256,
      n_embd: 16,
      n_layer: 1,
      n_head: 1,
    });
    model.requiresGrad(false);
    model.transformer.h[0]!.mlp.requiresGrad(true);
    const ids = tensor(
      Int32Array.from({ length: 512 }, (_, i) => (i * 31) % 4096),
      [2, 256],
    );
    const gpu = theGpu();
    gpu.resetPeak();
    const before = gpu.stats().bytesLive;
    backward(model.loss(ids, ids));
    const peak = gpu.stats().bytesPeak - before;
    const whole = 512 * 4096 * 4;
    ok(peak < whole / 2, `${peak} bytes, whole logits take ${whole}`);
    is(model.transformer.wte.weight.grad, null);
    model.dispose();
  },
);

runTests();
