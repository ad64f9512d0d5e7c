// The memory of a training step by formula: what is held, and what backward needs of forward. No weight is read.
import type { MemoryCategory } from "../../gpu/memory.ts";
import { planAdapter } from "../../lora/lora.ts";
import type { Target } from "../../lora/targets.ts";
import type { CausalLM } from "../../nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../../nn/gpt2.ts";
import { Embedding } from "../../nn/layers.ts";
import type { LlamaForCausalLM } from "../../nn/llama.ts";
import { outlinePretrained } from "../../nn/pretrained.ts";
import { heldAs } from "../base_dtype.ts";
import { loraConfigOf } from "../recipe/resolve.ts";
import type { FullConfig } from "../recipe/schema.ts";

/** What training a model by a method takes, whatever the rows are. */
export interface TrainedSizes {
  /** Parameters of the base; with the adapters; of those that are trained. */
  base: number;
  total: number;
  trainable: number;
  layers: number;
  width: number;
  /** Bytes that last, by category. */
  held: Record<"base" | "adapters" | "gradients" | "optimiser", number>;
  /** Numbers of 4 bytes that backward needs of forward, for each token of a batch. */
  kept: number;
  /** Numbers on their way, at the step's highest point, for each token of a batch. */
  passing: number;
}

/** What the memory of a step depends on besides. */
export interface Shape {
  batch: number;
  accumulate: number;
  length: number;
  base_dtype: FullConfig["base_dtype"];
  gradient_checkpointing: boolean;
}

export type StepMemory = Record<MemoryCategory | "total", number>;

/** Sizes of a decoder. */
interface Decoder {
  layers: number;
  width: number;
  /** Numbers that a block keeps per token in full fine-tuning, and with an adapter on all linear layers. */
  kept: number;
  /** Inputs that are kept for linear layers alone: the names of these, and the numbers per token and block. */
  inputs: readonly (readonly [names: readonly string[], numbers: number])[];
  /** Inside the MLP. */
  inner: number;
}

/**
 * Sizes of a model that is trained as a configuration says. Only the headers of its files are read.
 * @throws FormatError for a model that cannot be loaded
 */
export async function trainedSizes(folder: string, config: FullConfig): Promise<TrainedSizes> {
  const { method, base_dtype } = config;
  const dtype = method === "full" ? ("f32" as const) : base_dtype;
  const { model, bytes } = await outlinePretrained(folder, heldAs(dtype));
  try {
    const decoder = decoderOf(model);
    const { layers, width, inner } = decoder;
    const base = sum(model.parameters().map(({ size }) => size));
    const held = method === "full" ? 4 * base : sum(bytes.values());
    const adapter = method === "full" ? null : adapterSizes(model, config, decoder);
    const trainable = adapter?.trainable ?? base;
    return {
      ...{ base, trainable, layers, width },
      total: base + (adapter?.all ?? 0),
      held: {
        base: held,
        adapters: 4 * (adapter?.all ?? 0),
        gradients: 4 * trainable,
        optimiser: 8 * trainable,
      },
      kept: layers * decoder.kept + (adapter?.kept ?? 0),
      passing: inner + width,
    };
  } finally {
    model.dispose();
  }
}

/**
 * The memory of a step over some rows. With gradient checkpointing a layer keeps the two summands of its input (the
 * first has one), and one layer at a time is there as a whole.
 */
export function stepMemory(
  { held, kept, passing, layers, width }: TrainedSizes,
  {
    batch,
    length,
    gradient_checkpointing,
  }: Pick<Shape, "batch" | "length" | "gradient_checkpointing">,
): StepMemory {
  const bytes = 4 * batch * length;
  const recomputed = Math.min(kept, (2 * layers - 1) * width + kept / layers);
  const activations = bytes * (gradient_checkpointing ? recomputed : kept);
  const all = { ...held, activations, workspace: bytes * passing };
  return { ...all, total: sum(Object.values(all)) };
}

/**
 * A block of GPT-2 keeps 16·d + H numbers: the inputs of both norms and of the four linear layers, q, k, v, the inner
 * width before and after GELU, a log-sum-exp per head. Of Llama: the inputs of the norms and of the layers that share
 * one, q, k, v, what attention gives, gate, up and their product.
 */
function decoderOf(model: CausalLM): Decoder {
  if (model instanceof GPT2LMHeadModel) {
    const { width, innerWidth: inner, heads, layers } = model.spec;
    const inputs = [
      [["c_attn"], width],
      [["c_fc"], width],
      [["mlp.c_proj"], inner],
    ] as const;
    return { layers, width, inner, kept: 8 * width + 2 * inner + heads, inputs };
  }
  const {
    layers,
    hiddenSize: width,
    intermediateSize: inner,
    ...spec
  } = (model as LlamaForCausalLM).spec;
  const { heads, kvHeads, headDim, sandwich, qkNorm, activation } = spec;
  const [q, kv] = [heads * headDim, 2 * kvHeads * headDim];
  const attention = width + (qkNorm ? 2 : 1) * q + kv + (qkNorm ? kv / 2 : 0) + q;
  const gated = (activation === "silu" ? 3 : 4) * inner;
  const norms = (sandwich ? 4 : 2) * width;
  const inputs = [
    [["q_proj", "k_proj", "v_proj"], width],
    [["gate_proj", "up_proj"], width],
    [["down_proj"], inner],
  ] as const;
  return { layers, width, inner, kept: norms + attention + width + gated + heads, inputs };
}

/** Parameters of an adapter, those of them that are trained, and how much more than the decoder it keeps per token. */
function adapterSizes(model: CausalLM, config: FullConfig, { layers, inputs }: Decoder) {
  const { config: lora, plan } = planAdapter(model, loraConfigOf(config));
  const updates = [...plan.targets.values()].map((target) => ({ target, ...sizesOf(target) }));
  const extra = sum(
    updates.map(({ out }) => (lora.use_dora ? out : 0) + (lora.lora_bias ? out : 0)),
  );
  const copies = sum([...plan.saved.values()].flatMap((m) => m.parameters()).map((p) => p.size));
  const biases = lora.bias === "none" ? 0 : biasesOf(model, lora.bias, plan.targets);
  const [A, B] = [sum(updates.map(({ a }) => a)), sum(updates.map(({ b }) => b))];
  const all = A + B + extra + copies;
  const trainable = (config.method === "lora-fa" ? all - A : all) + biases;
  // S of each update; with DoRA also the layer's output before it is scaled.
  const own = sum(updates.map(({ target: { r }, out }) => r + (lora.use_dora ? out : 0)));
  const paths = [...plan.targets.keys(), ...plan.saved.keys()];
  const unused = inputs.map(([names, n]) => n * (layers - blocksWith(paths, names)));
  return { all, trainable, kept: own - sum(unused) };
}

/** In how many blocks a layer of one of these names is trained: frozen ones need no input in backward. */
function blocksWith(paths: readonly string[], names: readonly string[]): number {
  const found = paths.filter((path) => names.some((name) => path.endsWith(`.${name}`)));
  return new Set(found.map((path) => path.match(/\.(\d+)\./)?.[1])).size;
}

function sizesOf({ base, r }: Target): { out: number; a: number; b: number } {
  const [inner, out] =
    base instanceof Embedding
      ? [base.numEmbeddings, base.embeddingDim]
      : [base.inFeatures, base.outFeatures];
  return { out, a: r * inner, b: r * out };
}

function biasesOf(
  model: CausalLM,
  which: "all" | "lora_only",
  targets: ReadonlyMap<string, Target>,
): number {
  const biases = [...model.namedParameters()].filter(([name]) => name.endsWith(".bias"));
  const meant = biases.filter(([name]) => which === "all" || targets.has(name.slice(0, -5)));
  return sum(meant.map(([, { size }]) => size));
}

function sum(list: Iterable<number>): number {
  let total = 0;
  for (const n of list) total += n;
  return total;
}
