// What the commands that run a model have in common: its options, loading with progress, its adapters.
import type { Command } from "commander";
import { init } from "../gpu/device.ts";
import { LowrankError } from "../gpu/errors.ts";
import type { Lora } from "../lora/lora.ts";
import { loadAdapter } from "../lora/peft.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { fromPretrained } from "../nn/pretrained.ts";
import { BASE_DTYPES, type BaseDtype, heldAs } from "../train/base_dtype.ts";
import { readSamples } from "../train/data/index.ts";
import {
  adapterFolder,
  baseOf,
  modelFolder,
  nameAdapters,
  openTokenizer,
} from "../train/open_model.ts";
import type { Tokenizer } from "../train/text/tokenizer.ts";
import { UsageError } from "./errors.ts";
import { LateBar } from "./late_bar.ts";
import type { Output } from "./output.ts";
import { bytesText } from "./text.ts";

export interface ModelOptions {
  model?: string;
  adapter?: string[];
  tokenizer?: string;
  dtype?: BaseDtype;
}

/** The options of a model and its adapters. */
export function addModelOptions(command: Command): Command {
  return command
    .option("-m, --model <folder>", "folder of the model, or org/name of the hub (default: the base that the adapter names)") // biome-ignore format: one line
    .option("-a, --adapter <folder>", "folder of an adapter or of a run, or name=folder; several times for several", collect) // biome-ignore format: one line
    .option("--tokenizer <folder>", "folder with tokenizer.json, or bytes (default: the model's)")
    .option("--dtype <type>", `what weights are held as: ${BASE_DTYPES.join(", ")}`, oneOf("--dtype", BASE_DTYPES), "auto"); // biome-ignore format: one line
}

/** Collects what several flags of a name give. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** Throws what reading says of files that are not there or hold no samples, before a model is loaded for them. */
export async function checkSamples(paths: readonly string[]): Promise<void> {
  for (const path of paths) for await (const _ of readSamples([path])) break;
}

/** Reads one of some words. */
export function oneOf(flag: string, words: readonly string[]): (text: string) => string {
  return (text) => {
    if (words.includes(text)) return text;
    const expected = `one of ${words.join(", ")}`;
    throw new UsageError({ op: "lowrank", arg: flag, expected, got: `"${text}"` });
  };
}

/** A folder with the name by which its adapter is switched. */
export interface FoundAdapter {
  name: string;
  folder: string;
}

/** Where a model and its adapters lie. Nothing is loaded. */
export interface Found {
  model: string;
  adapters: FoundAdapter[];
}

/**
 * Finds the folders that the options mean; what is on the hub is fetched.
 * @throws UsageError where no model is named, and what the folders lack
 */
export async function findModel(output: Output, options: ModelOptions): Promise<Found> {
  const onDownload = downloads(output);
  const adapters: FoundAdapter[] = [];
  for (const { name, source } of nameAdapters(options.adapter ?? [])) {
    adapters.push({ name, folder: await adapterFolder(source, onDownload) });
  }
  const asked = options.model ?? (adapters[0] && (await baseOf(adapters[0].folder)));
  if (!asked) {
    const got = adapters[0] ? `nothing, and ${adapters[0].folder} names no base that is there` : "nothing"; // biome-ignore format: one line
    throw new UsageError({ op: "lowrank", arg: "--model", expected: "given", got });
  }
  return { model: await modelFolder(asked, onDownload), adapters };
}

/** A model on the device, with its tokenizer. */
export interface Opened {
  model: CausalLM;
  tokenizer: Tokenizer;
}

/** Opens the device and loads a model. */
export async function openModel(
  output: Output,
  found: Found,
  { tokenizer, dtype = "auto" }: ModelOptions,
): Promise<Opened> {
  await init();
  const bar = new LateBar(output, "loading");
  const onProgress = ({ bytesDone, bytesTotal }: { bytesDone: number; bytesTotal: number }) =>
    bar.update(bytesDone, bytesTotal, `${bytesText(bytesDone)} of ${bytesText(bytesTotal)}`);
  const model = await fromPretrained(found.model, { ...heldAs(dtype), onProgress });
  bar.end();
  model.requiresGrad(false);
  return { model, tokenizer: await openTokenizer(found.model, model, tokenizer) };
}

/** Puts adapters into a model; the first is active. Null where there is none. */
export async function addAdapters(
  model: CausalLM,
  adapters: readonly FoundAdapter[],
): Promise<Lora | null> {
  let lora: Lora | null = null;
  for (const { name, folder } of adapters) {
    try {
      lora = await loadAdapter(lora ?? model, folder, name);
    } catch (error) {
      if (!(error instanceof LowrankError) || error.message.includes(folder)) throw error;
      throw new LowrankError(`${error.message.replace(/\.$/, "")}, in ${folder}.`);
    }
  }
  return lora;
}

function downloads(output: Output) {
  const bar = new LateBar(output, "downloading");
  return ({ file, bytesDone, bytesTotal }: { file: string; bytesDone: number; bytesTotal: number }) =>
    bar.update(bytesDone, bytesTotal, `${file}, ${bytesText(bytesDone)} of ${bytesText(bytesTotal)}`); // biome-ignore format: one line
}
