// Batches whose sequences use different adapters: the base computes once for all of them.
import { gradExpected } from "../autograd/graph.ts";
import { add, loraMixed, mul, reshape } from "../autograd/ops/index.ts";
import { ShapeError, ValueError } from "../gpu/errors.ts";
import { Embedding } from "../nn/layers.ts";
import { tensor } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CompleteLoraConfig } from "./config.ts";
import { decomposes } from "./decompose.ts";
import { groupedForward, termOf } from "./grouped.ts";
import type { LoraLayer } from "./lora_layer.ts";
import type { LoraWeights } from "./lora_weights.ts";
import type { Switches } from "./switches.ts";

/** Throws ValueError for an adapter that does more than add to layers. */
export function checkMixable(name: string, config: CompleteLoraConfig): void {
  const { use_dora, lora_bias, bias, init_lora_weights, modules_to_save } = config;
  const reasons: [boolean, string][] = [
    [use_dora, "DoRA"],
    [lora_bias, "lora_bias"],
    [bias !== "none", `bias ${bias}`],
    [decomposes(init_lora_weights), `${init_lora_weights}`],
    [(modules_to_save ?? []).length > 0, "modules_to_save"],
  ];
  const found = reasons.find(([is]) => is);
  if (!found) return;
  const expected = "of adapters that only add to linear layers and embeddings";
  const got = `${name}, with ${found[1]}`;
  throw new ValueError({ op: "withAdapterNames", arg: "names", expected, got });
}

/** A layer's result where `switches.rows` says which adapters each sequence uses. */
export function mixedForward(layer: LoraLayer, x: Tensor, switches: Switches): Tensor {
  const rows = switches.rows!;
  const names = [...new Set(rows.flat())].filter((name) => layer.adapters.has(name));
  if (names.length === 0) return layer.base_layer.forward(x);
  if (x.shape[0] !== rows.length) {
    const facts = { arg: "adapterNames", expected: `${x.shape[0]} names, one for each sequence` };
    throw new ShapeError({ op: "lora_mixed", ...facts, got: `${rows.length}` });
  }
  // What is trained is to be what it is alone; what is not is to read the base's weights once.
  const grouped = gradExpected() ? groupedForward(layer, x, switches) : null;
  if (grouped) return grouped;
  const updates = names.map((name) => layer.adapters.get(name)!);
  if (layer.base_layer instanceof Embedding) return embedded(layer, x, rows, names, updates);
  const { weight, bias } = layer.base_layer;
  const terms = updates.map((update, i) => termOf(update, names[i]!, switches));
  const index = new Map(names.map((name, i) => [name, i]));
  const T = x.size / rows.length / layer.sizes.in;
  const y = loraMixed(
    reshape(x, [rows.length, T, layer.sizes.in]),
    weight,
    bias,
    updates.map((u) => u.lora_A),
    updates.map((u) => u.lora_B),
    {
      transposed: layer.transposed,
      terms,
      stack: layer.mixedStack,
      rows: rows.map((row) => row.flatMap((name) => index.get(name) ?? [])),
    },
  );
  return reshape(y, [...x.shape.slice(0, -1), layer.sizes.out]);
}

/** Each adapter looks all ids up, and counts for its own sequences. */
function embedded(
  layer: LoraLayer,
  ids: Tensor,
  rows: readonly (readonly string[])[],
  names: readonly string[],
  updates: readonly LoraWeights[],
): Tensor {
  const shape = [rows.length, ...ids.shape.slice(1).map(() => 1), 1];
  return updates.reduce((y, update, i) => {
    const counts = rows.map((row) => Number(row.includes(names[i]!)));
    return add(y, mul(update.forward(ids), tensor(Float32Array.from(counts), shape)));
  }, layer.base_layer.forward(ids));
}
