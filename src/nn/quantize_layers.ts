// Which layers of a model are quantised, and what becomes of them.
import { FormatError, ValueError } from "../gpu/errors.ts";
import type { PackedMatrix } from "../tensor/bitsandbytes.ts";
import { bytesOf } from "../tensor/dtype.ts";
import { isQuantized, QUANTIZED_TYPES } from "../tensor/quantized.ts";
import type { CausalLM } from "./causal_lm.ts";
import type { PackedLayer, Source } from "./fit_checkpoint.ts";
import { withEmptyWeights } from "./init.ts";
import { Conv1D, Linear, TurnedConv1D } from "./layers.ts";
import type { LoadOptions } from "./pretrained.ts";

/** Throws ValueError for the name of a quantisation that there is not. */
export function checkQuantize(type: string | undefined): void {
  if (type === undefined || isQuantized(type)) return;
  const expected = `one of ${QUANTIZED_TYPES.join(", ")}`;
  throw new ValueError({ op: "load", arg: "quantize", expected, got: type });
}

/**
 * Whose weights the quantised matrices of a checkpoint are.
 * @param model  with empty weights
 * @param names  names in the files, by the names that they have in the model
 * @throws FormatError where one belongs to no linear layer, or to the output head
 */
export function packedLayers(
  model: CausalLM,
  names: ReadonlyMap<string, string>,
  matrices: ReadonlyMap<string, PackedMatrix>,
): Map<string, PackedLayer> {
  const layers = new Map(model.namedModules());
  const found = new Map<string, PackedLayer>();
  for (const [path, name] of names) {
    const matrix = matrices.get(name);
    if (!matrix) continue;
    const layer = layers.get(path.replace(/\.weight$/, ""));
    const turned = layer instanceof Conv1D;
    if (path === "lm_head.weight" || (layer && !turned && !(layer instanceof Linear))) {
      const expected = "stored as F32, F16 or BF16, for only linear layers but the head are quantised here"; // biome-ignore format: one line
      const hint = "Nothing was loaded.";
      throw new FormatError({ op: "load", arg: name, expected, got: matrix.type, hint });
    }
    found.set(name, { matrix, turned });
  }
  return found;
}

/**
 * Has the weights of all linear layers but the output head held as a quantised type: those that are stored so as they
 * are, others rounded if `quantize` says so. A Conv1D becomes a layer whose weight is [out, in], for scales belong to
 * rows.
 * @param model  with empty weights
 * @param sources  where its parameters come from; changed in place
 * @param options  as those of `fromPretrained`: a `dtype` alone dequantises
 * @throws ValueError where a weight is stored as another quantised type
 */
export function quantizeLayers(
  model: CausalLM,
  sources: Map<string, Source>,
  { quantize, dtype = "auto" }: Pick<LoadOptions, "quantize" | "dtype">,
): void {
  const layers = [...model.namedModules()].filter(([path]) => path !== "lm_head");
  for (const [path, layer] of layers) {
    const isConv = layer instanceof Conv1D;
    if (!isConv && !(layer instanceof Linear)) continue;
    const name = `${path}.weight`;
    const source = sources.get(name)!;
    const { packed } = source;
    const type = quantize ?? (dtype === "auto" ? packed?.type : undefined);
    if (!type) continue;
    if (packed && packed.type !== type) {
      const hint = "Quantise the model as it was before, or leave it as it is stored.";
      const expected = `${packed.type}, as ${source.name} is stored`;
      throw new ValueError({ op: "load", arg: "quantize", expected, got: type, hint });
    }
    const shape = isConv ? [...source.shape].reverse() : source.shape;
    const turned = isConv && !packed;
    sources.set(name, { ...source, dtype: type, shape, turned, bytes: bytesOf(shape, type) });
    if (isConv) model.setModule(path, turnedFrom(layer));
  }
}

function turnedFrom(layer: Conv1D): Linear {
  const { inFeatures, outFeatures } = layer;
  const turned = withEmptyWeights(() => new TurnedConv1D(inFeatures, outFeatures));
  layer.dispose();
  return turned;
}
