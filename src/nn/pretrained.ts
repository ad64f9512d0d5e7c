// Models in Hugging Face's layout: config.json and model.safetensors, or shards with an index.
import { noGrad } from "../autograd/graph.ts";
import { cast } from "../autograd/ops/index.ts";
import { FormatError } from "../gpu/errors.ts";
import { parameter } from "../tensor/create.ts";
import { readJson, writeFileSafely } from "../tensor/files.ts";
import { loadModelTensors, saveSafetensors } from "../tensor/safetensors_file.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CausalLM } from "./causal_lm.ts";
import { type GPT2Config, GPT2LMHeadModel } from "./gpt2.ts";
import { withEmptyWeights } from "./init.ts";
import { type LlamaConfig, LlamaForCausalLM } from "./llama.ts";

/** Builds the model that a configuration describes, with fresh weights. */
export function modelFromConfig(config: Record<string, unknown>, from = "config"): CausalLM {
  const { model_type: type } = config;
  const known: Record<string, () => CausalLM> = {
    llama: () => new LlamaForCausalLM(config as unknown as LlamaConfig),
    gpt2: () => new GPT2LMHeadModel(config as unknown as GPT2Config),
  };
  const build = known[`${type}`];
  if (build) return build();
  const expected = `one of ${Object.keys(known).join(", ")}`;
  throw new FormatError({ op: "load", arg: `model_type of ${from}`, expected, got: `${type}` });
}

/**
 * Loads a model folder. Matrices keep their type (f16 and bf16 are for frozen weights); vectors,
 * such as norms and biases, become f32.
 * @param folder  holds config.json and model.safetensors or model.safetensors.index.json
 * @throws FormatError listing missing and surplus tensors and wrong shapes
 */
export async function fromPretrained(folder: string): Promise<CausalLM> {
  const config = await readJson(`${folder}/config.json`);
  const model = withEmptyWeights(() => modelFromConfig(config, `${folder}/config.json`));
  const state = await loadModelTensors(folder);
  for (const [name, t] of state) {
    if (t.rank !== 1 || t.dtype === "f32") continue;
    state.set(name, noGrad(() => cast(t, "f32")).persist());
    t.dispose();
  }
  try {
    model.loadStateDict(withoutPrefix(state, model));
  } catch (error) {
    for (const t of state.values()) t.dispose();
    model.dispose();
    throw error;
  }
  return model;
}

/** GPT-2's first checkpoints lack `transformer.` and hold attention masks; both are put right here. */
function withoutPrefix(state: Map<string, Tensor>, model: CausalLM): Map<string, Tensor> {
  if (model.modelType !== "gpt2") return state;
  const renamed = new Map<string, Tensor>();
  for (const [name, t] of state) {
    const isMask = /\.attn\.(bias|masked_bias)$/.test(name);
    if (isMask || name === "lm_head.weight") t.dispose();
    else renamed.set(name.startsWith("transformer.") ? name : `transformer.${name}`, t);
  }
  return renamed;
}

/**
 * Writes a model as a folder that `fromPretrained` and Transformers load.
 * @param options  `dtype`: what the parameters are rounded to; default: as they are
 */
export async function savePretrained(
  model: CausalLM,
  folder: string,
  options: { dtype?: "f32" | "f16" | "bf16" } = {},
): Promise<void> {
  using _ = scope();
  const config = {
    architectures: [model.modelType === "gpt2" ? "GPT2LMHeadModel" : "LlamaForCausalLM"],
    model_type: model.modelType,
    ...model.config,
  };
  const state: Record<string, Tensor> = {};
  for (const [name, p] of model.stateDict()) {
    state[name] = options.dtype ? noGrad(() => cast(p, options.dtype!)) : p;
  }
  await saveSafetensors(`${folder}/model.safetensors`, state, { format: "pt" });
  await writeFileSafely(`${folder}/config.json`, `${JSON.stringify(config, null, 2)}\n`);
}

/** Makes every parameter f32, as full fine-tuning needs it. */
export function toFloat32(model: CausalLM): void {
  for (const [name, p] of model.stateDict()) {
    if (p.dtype === "f32") continue;
    model.setParameter(name, parameter(cast(p, "f32")));
    p.dispose();
  }
}
