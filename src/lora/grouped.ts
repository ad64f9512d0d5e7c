// Training side by side: runs of sequences, each with an adapter of its own, computed as it would be alone.
import { add, concat, loraGroups, slice } from "../autograd/ops/index.ts";
import { canGroup, type RowGroup } from "../autograd/ops/lora_groups.ts";
import { Embedding } from "../nn/layers.ts";
import { zeros } from "../tensor/create.ts";
import { type Key, nextKeyOf } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LoraLayer } from "./lora_layer.ts";
import type { LoraWeights } from "./lora_weights.ts";
import type { Switches } from "./switches.ts";

/** How an adapter takes part: its scale, its dropping now, and the key that it would have drawn alone. */
export function termOf(update: LoraWeights, name: string, { streams }: Switches) {
  const p = update.drops ? update.dropout : 0;
  const key: Key = p > 0 ? nextKeyOf(() => streams.get(name)!) : [0, 0];
  return { scale: update.scaling, p, key };
}

/** Sequences that follow each other and use one adapter, or none that this layer has. */
interface Run {
  name: string;
  sequences: number;
}

/** Null where a sequence uses several adapters, or those of one adapter do not follow each other. */
function runsOf(rows: readonly (readonly string[])[]): Run[] | null {
  const runs: Run[] = [];
  for (const row of rows) {
    if (row.length > 1) return null;
    const [name = ""] = row;
    const last = runs.at(-1);
    if (last?.name === name) last.sequences += 1;
    else runs.push({ name, sequences: 1 });
  }
  return new Set(runs.map((run) => run.name)).size === runs.length ? runs : null;
}

/** A layer's result, or null where its rows cannot be taken run by run. */
export function groupedForward(layer: LoraLayer, x: Tensor, switches: Switches): Tensor | null {
  const runs = runsOf(switches.rows!);
  if (!runs) return null;
  if (layer.base_layer instanceof Embedding) return embedded(layer, x, runs);
  const { sizes, transposed, adapters } = layer;
  const T = x.size / switches.rows!.length / sizes.in;
  const rows = runs.map(({ sequences }) => ({ rows: sequences * T }));
  if (!canGroup(rows, [sizes.in, sizes.out])) return null;
  const own = runs.flatMap(({ name }) => adapters.get(name) ?? []);
  const groups = runs.map(({ name }, i): RowGroup => {
    const update = adapters.get(name);
    if (!update) return { ...rows[i]!, adapter: null, scale: 0, p: 0, key: [0, 0] };
    return { ...rows[i]!, adapter: own.indexOf(update), ...termOf(update, name, switches) };
  });
  const { weight, bias } = layer.base_layer;
  const [as, bs] = [own.map((u) => u.lora_A), own.map((u) => u.lora_B)];
  return loraGroups(x, weight, bias, as, bs, { transposed, groups });
}

/** Each adapter looks its own ids up. */
function embedded(layer: LoraLayer, ids: Tensor, runs: readonly Run[]): Tensor {
  let start = 0;
  const updates = runs.map(({ name, sequences }) => {
    const own = slice(ids, 0, start, start + sequences);
    start += sequences;
    return layer.adapters.get(name)?.forward(own) ?? zeros([...own.shape, layer.sizes.out]);
  });
  return add(layer.base_layer.forward(ids), concat(updates, 0));
}
