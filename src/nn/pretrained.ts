// Models in Hugging Face's layout: config.json and model.safetensors, or shards with an index.
import { cast } from "../autograd/ops/index.ts";
import { gpu } from "../gpu/device.ts";
import { DeviceError, FormatError, LimitError } from "../gpu/errors.ts";
import { type PackedMatrix, packedMatrices, readPacked } from "../tensor/bitsandbytes.ts";
import { Checkpoint } from "../tensor/checkpoint.ts";
import { parameter } from "../tensor/create.ts";
import { bytesOf, encode } from "../tensor/dtype.ts";
import { readJson } from "../tensor/files.ts";
import { dequantizeValues, isQuantized, type QuantizedType } from "../tensor/quantized.ts";
import { transposed } from "../tensor/safetensors_file.ts";
import { Tensor } from "../tensor/tensor.ts";
import { ARCHITECTURES } from "./architectures.ts";
import type { CausalLM } from "./causal_lm.ts";
import {
  checkFits,
  matchCheckpoint,
  type Source,
  tooLarge,
  type WeightType,
} from "./fit_checkpoint.ts";
import { GPT2LMHeadModel } from "./gpt2.ts";
import { type GPT2Config, readGPT2Config } from "./gpt2_config.ts";
import { withEmptyWeights } from "./init.ts";
import { LlamaForCausalLM } from "./llama.ts";
import { LLAMA_FAMILIES, type LlamaConfig, readLlamaConfig } from "./llama_config.ts";
import { checkQuantize, packedLayers, quantizeLayers } from "./quantize_layers.ts";

export { savePretrained } from "./save_pretrained.ts";

/**
 * Builds the model that a configuration describes, with fresh weights.
 * @param config  the fields of `config.json`; `model_type` chooses the architecture
 * @param from  where it came from, for messages
 * @param ignoreConfig  fields to pass over
 * @throws FormatError for an unknown architecture, or listing every field that cannot be used
 */
export function modelFromConfig(
  config: Record<string, unknown>,
  from = "the configuration",
  ignoreConfig: readonly string[] = [],
): CausalLM {
  const { model_type: type } = config;
  const options = { from, ignoreConfig };
  if (type === "gpt2") return new GPT2LMHeadModel(config as unknown as GPT2Config, options);
  if ((LLAMA_FAMILIES as readonly unknown[]).includes(type)) {
    return new LlamaForCausalLM(config as unknown as LlamaConfig, options);
  }
  throw unknownType(type, from);
}

/**
 * What `modelFromConfig` would refuse, without building anything.
 * @throws FormatError as `modelFromConfig`
 */
export function checkModelConfig(
  config: Readonly<Record<string, unknown>>,
  from = "the configuration",
): void {
  const { model_type: type } = config;
  if (type === "gpt2") readGPT2Config(config, from);
  else if ((LLAMA_FAMILIES as readonly unknown[]).includes(type)) readLlamaConfig(config, from);
  else throw unknownType(type, from);
}

function unknownType(type: unknown, from: string): FormatError {
  const expected = `one of ${Object.keys(ARCHITECTURES).join(", ")}`;
  return new FormatError({ op: "load", arg: `model_type of ${from}`, expected, got: `${type}` });
}

export interface LoadOptions {
  /**
   * What matrices are held as; they are converted on the way, and those that are stored quantised are
   * dequantised. Default `auto`: as they are stored. f16 and bf16 are for frozen weights. Vectors, such
   * as norms and biases, are always f32.
   */
  dtype?: WeightType | "auto";
  /**
   * Rounds the weights of all linear layers but the output head to 8 bits, or to 4: a frozen base for
   * adapters. The rest is held as `dtype` says. Weights that are stored so stay as they are. Default: not.
   */
  quantize?: QuantizedType;
  /** Fields of config.json that do not change what the model computes, though they are not known here. */
  ignoreConfig?: readonly string[];
  /** Called after each tensor. */
  onProgress?: (progress: LoadProgress) => void;
}

export interface LoadProgress {
  /** The parameter that was read last. */
  name: string;
  bytesDone: number;
  bytesTotal: number;
}

/**
 * Loads a model folder. Tensors are read in pieces, straight into their buffers: host memory never
 * holds the model. Whatever is wrong is told before the first is read.
 * @param folder  holds config.json and model.safetensors or model.safetensors.index.json, and perhaps
 *   generation_config.json
 * @throws FormatError listing missing and surplus tensors and wrong shapes; LimitError for a model that
 *   the device cannot hold; ValueError for a quantisation that there is not, or of what is not finite
 */
export async function fromPretrained(folder: string, options: LoadOptions = {}): Promise<CausalLM> {
  const { model } = await planned(folder, options, async ({ model, checkpoint, sources }) => {
    await checkFits(sources);
    model.loadStateDict(await readAll(checkpoint, sources, options.onProgress));
  });
  return model;
}

/**
 * The model of a folder with empty weights, and the bytes that each of them would take. None is read.
 * @throws as `fromPretrained`, but for what the device can hold
 */
export async function outlinePretrained(
  folder: string,
  options: Pick<LoadOptions, "dtype" | "quantize"> = {},
): Promise<{ model: CausalLM; bytes: ReadonlyMap<string, number> }> {
  const { model, result } = await planned(folder, options, async ({ sources }) =>
    Array.from(sources, ([path, { bytes }]) => [path, bytes] as const),
  );
  return { model, bytes: new Map(result) };
}

/** A folder's model with empty weights, and where they would come from. */
interface Planned {
  model: CausalLM;
  checkpoint: Checkpoint;
  sources: ReadonlyMap<string, Source>;
}

/** Plans a model, and does something with the plan while its files are open. */
async function planned<T>(
  folder: string,
  options: LoadOptions,
  use: (plan: Planned) => Promise<T>,
): Promise<{ model: CausalLM; result: T }> {
  const { quantize } = options;
  checkQuantize(quantize);
  const from = `${folder}/config.json`;
  const config = await readJson(from);
  const model = withEmptyWeights(() => modelFromConfig(config, from, options.ignoreConfig));
  try {
    model.generationConfig = await readGenerationConfig(folder, config);
    const checkpoint = await Checkpoint.open(folder);
    try {
      const matrices = await packedMatrices(checkpoint);
      const names = await namesInModel(checkpoint, matrices, model);
      const { dtype = "auto" } = options;
      const packed = packedLayers(model, names, matrices);
      const sources = matchCheckpoint(model.stateDict(), names, checkpoint, packed, dtype);
      quantizeLayers(model, sources, options);
      return { model, result: await use({ model, checkpoint, sources }) };
    } finally {
      await checkpoint.close();
    }
  } catch (error) {
    model.dispose();
    throw error;
  }
}

async function readGenerationConfig(
  folder: string,
  config: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const { existsSync } = await import("../tensor/disk.node.ts");
  const path = `${folder}/generation_config.json`;
  if (existsSync(path)) return readJson(path);
  const { bos_token_id, eos_token_id, pad_token_id } = config;
  return { bos_token_id, eos_token_id, pad_token_id };
}

/**
 * The names in the files by the names of parameters. Checkpoints of a bare decoder lack the prefix;
 * old ones hold masks and rotary tables, which are computed here; some hold a tied head twice.
 */
async function namesInModel(
  checkpoint: Checkpoint,
  matrices: ReadonlyMap<string, PackedMatrix>,
  model: CausalLM,
): Promise<Map<string, string>> {
  const [head, prefix, embedding] = ["lm_head.weight", model.bodyPrefix, model.embeddingPath];
  const parts = new Set([...matrices.values()].flatMap(({ parts: [, ...others] }) => others));
  const stored = [...checkpoint.files.keys()].filter((name) => !parts.has(name));
  const isBare = !stored.some((name) => name.startsWith(prefix));
  const names = new Map<string, string>();
  for (const name of stored) {
    if (/\.attn\.(bias|masked_bias)$|rotary_emb\.inv_freq$/.test(name)) continue;
    names.set(isBare && name !== head ? prefix + name : name, name);
  }
  if (model.stateDict().has(head) || !names.has(head)) return names;
  const source = names.get(embedding);
  if (!source) names.set(embedding, head);
  else if (!(await checkpoint.same(source, head))) {
    // As in Transformers: weights that differ are not tied, whatever the configuration says.
    withEmptyWeights(() => model.untieHead());
    return names;
  }
  names.delete(head);
  return names;
}

/** Takes memory for all tensors first, so that a device that has too little says so before any is read. */
async function readAll(
  checkpoint: Checkpoint,
  sources: ReadonlyMap<string, Source>,
  onProgress?: (progress: LoadProgress) => void,
): Promise<Map<string, Tensor>> {
  const bytesTotal = [...sources.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  const state = new Map<string, Tensor>();
  try {
    for (const [path, { shape, dtype }] of sources) {
      state.set(path, Tensor.emptyTable("load", shape, dtype).persist());
    }
    await gpu("load").sync();
  } catch (error) {
    for (const t of state.values()) t.dispose();
    gpu("load").pool.trim();
    if (!(error instanceof DeviceError)) throw error;
    throw tooLarge(bytesTotal, `what the device can hold. It says: ${error.message}`);
  }
  try {
    let bytesDone = 0;
    for (const [path, { name, file, packed, bytes, dtype, turned }] of sources) {
      const t = state.get(path)!;
      if (packed) await file.upload(t, await unpacked(t, packed, turned, checkpoint));
      else if (isQuantized(dtype)) await file.quantizeInto(t, name, turned);
      else await file.fill(t, name);
      bytesDone += bytes;
      onProgress?.({ name: path, bytesDone, bytesTotal });
    }
    await gpu("load").sync();
    return state;
  } catch (error) {
    for (const t of state.values()) t.dispose();
    throw error;
  }
}

/** The bytes of a quantised matrix for `t`: as they are, or dequantised to its type. */
async function unpacked(
  t: Tensor,
  packed: PackedMatrix,
  turned: boolean,
  checkpoint: Checkpoint,
): Promise<Uint8Array> {
  const bytes = await readPacked(checkpoint, packed);
  if (isQuantized(t.dtype)) return bytes;
  const { shape, type } = packed;
  const values = dequantizeValues(bytes, shape, type);
  return encode(turned ? transposed(values, ...shape) : values, t.dtype);
}

/**
 * Makes every parameter f32, as full fine-tuning needs it.
 * @throws LimitError naming those that are too large to be trained on this device; nothing was changed then
 */
export function toFloat32(model: CausalLM): void {
  checkTrainable(model);
  for (const [name, p] of model.stateDict()) {
    if (p.dtype === "f32") continue;
    model.setParameter(name, parameter(cast(p, "f32")));
    p.dispose();
  }
}

function checkTrainable(model: CausalLM): void {
  const { bindingLimit } = gpu("toFloat32");
  const large = [...model.stateDict()].filter(([, p]) => bytesOf(p.shape, "f32") > bindingLimit);
  if (large.length === 0) return;
  throw new LimitError({
    op: "toFloat32",
    arg: "each parameter",
    expected: `at most ${bindingLimit} bytes in f32, which this device binds at once, to be trained`,
    got: large.map(([name, p]) => `${name} of ${bytesOf(p.shape, "f32")}`).join(", "),
    hint: "Train adapters (LoRA), beside which it stays frozen, or use a device with larger bindings.",
  });
}
