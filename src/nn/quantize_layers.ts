// Which layers of a model are quantised, and what becomes of them.
import { DTypeError, ValueError } from "../gpu/errors.ts";
import { bytesOf } from "../tensor/dtype.ts";
import { isQuantized, QUANTIZED_TYPES, type QuantizedType } from "../tensor/quantized.ts";
import type { CausalLM } from "./causal_lm.ts";
import type { Source } from "./fit_checkpoint.ts";
import { withEmptyWeights } from "./init.ts";
import { Conv1D, Linear, TurnedConv1D } from "./layers.ts";

/** Throws ValueError for the name of a quantisation that there is not. */
export function checkQuantize(type: string | undefined): void {
  if (type === undefined || isQuantized(type)) return;
  const expected = `one of ${QUANTIZED_TYPES.join(", ")}`;
  throw new ValueError({ op: "load", arg: "quantize", expected, got: type });
}

/**
 * Has the weights of all linear layers but the output head held as a quantised type. A Conv1D becomes a
 * layer whose weight is [out, in], for scales belong to rows.
 * @param model  with empty weights
 * @param sources  where its parameters come from; changed in place
 */
export function quantizeLayers(
  model: CausalLM,
  sources: Map<string, Source>,
  dtype: QuantizedType,
): void {
  const layers = [...model.namedModules()].filter(([path]) => path !== "lm_head");
  for (const [path, layer] of layers) {
    const turned = layer instanceof Conv1D;
    if (!turned && !(layer instanceof Linear)) continue;
    const name = `${path}.weight`;
    const source = sources.get(name)!;
    const shape = turned ? [...source.shape].reverse() : source.shape;
    sources.set(name, { ...source, dtype, shape, turned, bytes: bytesOf(shape, dtype) });
    if (turned) model.setModule(path, turnedFrom(layer));
  }
}

function turnedFrom(layer: Conv1D): Linear {
  const { inFeatures, outFeatures } = layer;
  const turned = withEmptyWeights(() => new TurnedConv1D(inFeatures, outFeatures));
  layer.dispose();
  return turned;
}

/** Throws DTypeError where a layer is quantised, which Hugging Face's layout of a model has no place for. */
export function checkWide(model: CausalLM): void {
  for (const [path, { dtype }] of model.stateDict()) {
    if (!isQuantized(dtype)) continue;
    const hint = "Save the adapter instead; the base is the folder that it was loaded from.";
    const facts = { arg: path, expected: "f32, f16 or bf16", got: dtype, hint };
    throw new DTypeError({ op: "savePretrained", ...facts });
  }
}
