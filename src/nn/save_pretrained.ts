// A model as a folder in Hugging Face's layout, which `fromPretrained` and Transformers load.
import { noGrad } from "../autograd/graph.ts";
import { cast, transpose } from "../autograd/ops/index.ts";
import { DTypeError } from "../gpu/errors.ts";
import { bytesAs } from "../kernels/cast.ts";
import { packedParts } from "../tensor/bitsandbytes.ts";
import type { DType } from "../tensor/dtype.ts";
import { writeFileSafely } from "../tensor/files.ts";
import { isQuantized, type QuantizedType } from "../tensor/quantized.ts";
import { type Part, writeSafetensors } from "../tensor/safetensors_file.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ARCHITECTURES } from "./architectures.ts";
import type { CausalLM } from "./causal_lm.ts";
import { configJson } from "./config_json.ts";
import type { WeightType } from "./fit_checkpoint.ts";
import { TurnedConv1D } from "./layers.ts";
import { quantizationConfig } from "./quantization_config.ts";

const DTYPE_NAMES: Readonly<Record<string, string>> = {
  f32: "float32",
  f16: "float16",
  bf16: "bfloat16",
};

/**
 * Writes a model as a folder that `fromPretrained` and Transformers load. Parameters are read, and
 * rounded if need be, one after the other. Quantised ones are written as bitsandbytes names them.
 * @param options  `dtype`: what the parameters are rounded to, quantised ones too; default: as they are
 * @throws DTypeError for weights of two quantised types, before anything is written
 */
export async function savePretrained(
  model: CausalLM,
  folder: string,
  options: { dtype?: WeightType } = {},
): Promise<void> {
  const state = model.stateDict();
  const quantised = options.dtype ? null : quantisedType(state);
  const dtype = options.dtype ?? state.get(model.embeddingPath)!.dtype;
  const computeType = DTYPE_NAMES[dtype]!;
  const {
    torch_dtype: _,
    quantization_config: __,
    ...fields
  } = model.config as Record<string, unknown>;
  const config = {
    ...fields,
    architectures: [ARCHITECTURES[model.modelType]],
    model_type: model.modelType,
    tie_word_embeddings: !state.has("lm_head.weight"),
    dtype: computeType,
    ...(quantised ? { quantization_config: quantizationConfig(quantised, computeType) } : {}),
  };
  const parts = new Map<string, Part>();
  for (const [name, p] of state) {
    const as = options.dtype ?? p.dtype;
    if (isQuantized(as)) {
      for (const [part, content] of packedParts(name, p, computeType)) parts.set(part, content);
      continue;
    }
    const owner = model.module(name.replace(/\.\w+$/, ""));
    const turned = owner instanceof TurnedConv1D && p.rank === 2;
    const shape = turned ? [...p.shape].reverse() : p.shape;
    parts.set(name, { dtype: as, shape, bytes: () => bytesOf(p, as, turned) });
  }
  await writeSafetensors(`${folder}/model.safetensors`, parts, { format: "pt" });
  const write = (file: string, json: object) =>
    writeFileSafely(`${folder}/${file}`, configJson(json));
  if (Object.keys(model.generationConfig).length > 0) {
    await write("generation_config.json", model.generationConfig);
  }
  await write("config.json", config);
}

/** The quantised type of some weights; null where none is. */
function quantisedType(state: ReadonlyMap<string, Tensor>): QuantizedType | null {
  let type: QuantizedType | null = null;
  for (const [name, { dtype }] of state) {
    if (!isQuantized(dtype)) continue;
    type ??= dtype;
    if (dtype === type) continue;
    const facts = { arg: name, expected: `${type}, as weights before it`, got: dtype };
    throw new DTypeError({ op: "savePretrained", ...facts });
  }
  return type;
}

async function bytesOf(p: Tensor, dtype: DType, turned: boolean): Promise<Uint8Array> {
  if (!turned) return bytesAs(p, dtype);
  using _ = scope();
  return noGrad(() => cast(transpose(cast(p, "f32")), dtype)).rawBytes();
}
