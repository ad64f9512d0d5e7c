// CausalLM.loss: through linear_cross_entropy where the head is plain, through whole logits elsewhere.
import { is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { crossEntropy, reshape } from "../../src/autograd/ops/index.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
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

const gemma2 = (): CausalLM =>
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
  });

const MODELS: Record<string, () => CausalLM> = {
  "llama, untied": () => llama(false),
  "llama, tied": () => llama(true),
  gpt2,
  "gemma 2, tied and capped": gemma2,
};

/** Tokens that can be learnt, the first of each window without a target. */
function batch(step: number): [ids: Tensor, targets: Tensor] {
  const token = (i: number) => (i * i + 3 * step) % V;
  const ids = Int32Array.from({ length: B * T }, (_, i) => token(i));
  const targets = Int32Array.from({ length: B * T }, (_, i) => (i % T === 0 ? -100 : token(i + 1)));
  return [tensor(ids, [B, T]), tensor(targets, [B, T])];
}

/** The losses of a run, and where it took the parameters. */
async function train(build: () => CausalLM, lora: boolean, steps: number) {
  manualSeed(3);
  const model = build();
  if (lora) addLora(model, { r: 4, lora_dropout: 0.1, target_modules: "all-linear" });
  const parameters = model.trainableParameters();
  const optimizer = new AdamW(parameters, { lr: lora ? 1e-2 : 3e-3 });
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
  const ends = [...(await parameters[0]!.data())];
  optimizer.dispose();
  model.dispose();
  return { losses, ends };
}

for (const [name, build] of Object.entries(MODELS)) {
  for (const lora of [false, true]) {
    const what = lora ? "an adapter" : "all parameters";
    gpuTest(`${name}, ${what}: thirty steps are those of the plain path`, async () => {
      const fast = await train(build, lora, 30);
      setKernelPath("plain");
      const plain = await train(build, lora, 30).finally(() => setKernelPath("auto"));
      const fall = plain.losses[0]! - plain.losses.at(-1)!;
      ok(fall > (lora ? 0.05 : 0.3), `it learns: ${plain.losses}`); // an adapter of random weights learns little
      close(fast.losses, plain.losses, 1e-4, "losses");
      close(fast.ends, plain.ends, 2e-3, "parameters");
    });
  }
}

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

gpuTest("loss: an adapter on the output head takes the way through the logits", async () => {
  manualSeed(4);
  const model = llama(false);
  const lora = addLora(model, { r: 2, target_modules: ["lm_head"] });
  is(lora.layers.size, 1);
  const B0 = lora.parameters()[1]!;
  const [ids, targets] = batch(0);
  const loss = model.loss(ids, targets);
  backward(loss);
  ok(
    (await B0.grad!.data()).some((g) => g !== 0),
    "the head's adapter gets a gradient",
  );
  const logits = reshape(model.call(ids), [B * T, V]);
  const direct = crossEntropy(logits, reshape(targets, [B * T]));
  is(await loss.item(), await direct.item());
  model.dispose();
});

runTests();
