// What an adapter costs when it is used: the base, with the adapter beside it, and with the adapter merged.
import { readFile } from "node:fs/promises";
import { loadAdapter } from "../../src/lora/peft.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained, toFloat32 } from "../../src/nn/pretrained.ts";

const ROUNDS = 31;
const PROMPT = 64;
const TOKENS = 48;

/** Milliseconds per generated token. */
export interface Latency {
  base: number;
  unmerged: number;
  merged: number;
}

/** The three in turns, the fastest turn of each: what else runs on a shared machine only adds to it. */
export async function latencyOf(
  baseFolder: string,
  adapter: string,
  text: string,
): Promise<Latency> {
  const model = await fromPretrained(baseFolder);
  toFloat32(model);
  const lora = await loadAdapter(model, adapter);
  const prompt = Array.from((await readFile(text)).subarray(0, PROMPT));
  const timed = async () => {
    await generate(model, prompt, { maxNewTokens: 1, stop: [] }); // runs the merge too
    const began = performance.now();
    await generate(model, prompt, { maxNewTokens: TOKENS, stop: [] });
    return (performance.now() - began) / TOKENS;
  };
  const states: Record<keyof Latency, { enter: () => void; leave: () => void }> = {
    base: { enter: () => lora.disable(), leave: () => lora.enable() },
    unmerged: { enter: () => {}, leave: () => {} },
    merged: { enter: () => lora.merge(), leave: () => lora.unmerge() },
  };
  const times: Record<keyof Latency, number[]> = { base: [], unmerged: [], merged: [] };
  for (let round = 0; round <= ROUNDS; round++) {
    for (const name of Object.keys(states) as (keyof Latency)[]) {
      states[name].enter();
      const ms = await timed();
      states[name].leave();
      if (round > 0) times[name].push(ms); // the first round makes what is made once
    }
  }
  model.dispose();
  const { base, unmerged, merged } = times;
  return { base: Math.min(...base), unmerged: Math.min(...unmerged), merged: Math.min(...merged) };
}
