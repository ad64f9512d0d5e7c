// An adapted layer as the output head: its loss in chunks, with no logits that are whole.
import { add, concat, dropout, linear, mul } from "../autograd/ops/index.ts";
import type { PlainHead } from "../nn/causal_lm.ts";
import { Embedding } from "../nn/layers.ts";
import { nextKey } from "../tensor/philox.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { termOf } from "./grouped.ts";
import type { LoraLayer } from "./lora_layer.ts";
import type { LoraWeights } from "./lora_weights.ts";
import type { Switches } from "./switches.ts";

/** One update's part of the logits: s·bᵀ. s: [..., r], b: [V, r] */
interface Factors {
  s: Tensor;
  b: Tensor;
}

/**
 * What a layer computes with as a head: its weights and the low-rank updates of all active adapters. Null
 * where there is more to it: DoRA, sequences with different adapters, and what an adapter that is off took out.
 */
export function adaptedHead(layer: LoraLayer, switches: Switches): PlainHead | null {
  const { base_layer: base, merged, adapters } = layer;
  const names = merged || !switches.enabled ? [] : namesOfAll(switches);
  if (!names || base instanceof Embedding) return null;
  const own = names.filter((name) => adapters.has(name));
  const updates = own.map((name) => adapters.get(name)!);
  if (updates.some((update) => update.lora_magnitude_vector)) return null;
  const isWhole = merged || updates.length > 0;
  if (!isWhole && [...adapters.values()].some((update) => update.start)) return null;
  const head = { weight: base.weight, bias: biasWith(base.bias, updates) };
  if (updates.length === 0) return head;
  const update = (hidden: Tensor) =>
    together(updates.map((u, i) => factorsOf(u, own[i]!, hidden, switches)));
  return { ...head, update };
}

/** The adapters that every sequence uses; null where they differ. */
function namesOfAll({ active, rows }: Switches): readonly string[] | null {
  if (!rows) return active;
  const [first = []] = rows;
  return rows.every((row) => row.join(" ") === first.join(" ")) ? first : null;
}

function biasWith(bias: Tensor | null, updates: readonly LoraWeights[]): Tensor | null {
  return updates.reduce((sum: Tensor | null, { lora_bias, scaling }) => {
    if (!lora_bias) return sum;
    const own = mul(lora_bias, scaling);
    return sum ? add(sum, own) : own;
  }, bias);
}

/** s = scale·D(x)·Aᵀ, dropped as the layer itself would. */
function factorsOf(update: LoraWeights, name: string, x: Tensor, switches: Switches): Factors {
  const p = update.drops ? update.dropout : 0;
  const key = () => (switches.rows ? termOf(update, name, switches).key : nextKey());
  const kept = p > 0 ? dropout(x, p, { key: key() }) : x;
  return { s: mul(linear(kept, update.lora_A), update.scaling), b: update.lora_B };
}

/** Several updates as one, whose ranks are added. */
function together(all: readonly Factors[]): Factors {
  if (all.length === 1) return all[0]!;
  const s = concat(
    all.map((f) => f.s),
    -1,
  );
  const b = concat(
    all.map((f) => f.b),
    1,
  );
  return { s, b };
}
