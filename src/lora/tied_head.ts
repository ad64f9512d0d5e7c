// An embedding that is the output head too: an adapter of it must not change the head by a merge.
import { ValueError } from "../gpu/errors.ts";
import { CausalLM } from "../nn/causal_lm.ts";
import type { Lora } from "./lora.ts";

/** The path of an embedding that an active adapter changes and that is the output head too. */
function tiedEmbedding({ model, layers, saved, activeAdapters }: Lora): string | null {
  if (!(model instanceof CausalLM) || model.lm_head) return null;
  const path = model.embeddingPath.replace(/\.weight$/, "");
  const owners = layers.get(path)?.adapters ?? saved.get(path)?.copies;
  return activeAdapters.some((name) => owners?.has(name)) ? path : null;
}

/** Throws ValueError where an active adapter changes an embedding that is the output head too. */
export function checkHeadApart(op: string, lora: Lora): void {
  const path = tiedEmbedding(lora);
  if (path === null) return;
  const hint = "Use `mergeAndUnload()` and `savePretrained`: the head gets weights of its own.";
  const facts = { arg: path, expected: "apart from the output head", got: "its weights too" };
  throw new ValueError({ op, ...facts, hint });
}

/** Gives the head a copy of the embedding where an adapter is about to change that for good. */
export function untieHead(lora: Lora): void {
  const { model, layers, saved } = lora;
  const path = tiedEmbedding(lora);
  if (path === null || !(model instanceof CausalLM)) return;
  const embedding = layers.get(path) ?? saved.get(path)!;
  const head = model.untieHead();
  head.weight.dispose();
  head.weight = embedding.weight.clone().persist();
}
