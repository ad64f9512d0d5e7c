// Models of the Hugging Face hub: `import { fromHub } from "lowrank/hub"`. Needs `@huggingface/hub`; Node only.
import type { CausalLM } from "../../nn/causal_lm.ts";
import { fromPretrained, type LoadOptions } from "../../nn/pretrained.ts";
import type { HubOptions } from "./settings.ts";
import { snapshot } from "./snapshot.ts";

export type { HubOptions, HubProgress } from "./settings.ts";
export { snapshot } from "./snapshot.ts";

/**
 * Loads a model of the hub: `snapshot`, then `fromPretrained`. Its tokenizer lies in the same folder:
 * `loadTokenizer(await snapshot("org/name"))`.
 * @param repo  `org/name`
 * @param options  of the download, and under `load` those of `fromPretrained`
 */
export async function fromHub(
  repo: string,
  options: HubOptions & { load?: LoadOptions } = {},
): Promise<CausalLM> {
  const { load, ...download } = options;
  return fromPretrained(await snapshot(repo, download), load);
}
