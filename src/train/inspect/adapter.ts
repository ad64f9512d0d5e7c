// What an adapter's folder holds: config, layers, norms, the spectrum of each update, advice on r. Needs neither the
// base model nor a device.
import { FormatError } from "../../gpu/errors.ts";
import type { CompleteLoraConfig } from "../../lora/config.ts";
import { decomposes } from "../../lora/decompose.ts";
import { WEIGHTS_FILE } from "../../lora/peft.ts";
import { CONFIG_FILE, configFrom } from "../../lora/peft_config.ts";
import { strengthAt } from "../../lora/targets.ts";
import { readJson } from "../../tensor/files.ts";
import { SafetensorsFile } from "../../tensor/safetensors_file.ts";
import { type RankAdvice, rankAdvice } from "../evaluation/rank_advice.ts";
import { type Spectrum, spectrumOf } from "../evaluation/spectrum.ts";
import { byType, factsOf, hostValues, type TypeFacts } from "./tensors.ts";

export interface AdapterLayerFacts {
  path: string;
  kind: "linear" | "embedding";
  r: number;
  lora_alpha: number;
  /** s of y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ. */
  scaling: number;
  in: number;
  out: number;
  parameters: number;
  /** ‖A‖ and ‖B‖. */
  normA: number;
  normB: number;
  /** Null where A or B is not finite. */
  spectrum: Spectrum | null;
}

export interface AdapterFacts {
  kind: "adapter";
  path: string;
  base: string | null;
  config: CompleteLoraConfig;
  /** Of the weights' file. */
  bytes: number;
  parameters: number;
  types: Record<string, TypeFacts>;
  layers: AdapterLayerFacts[];
  /** Tensors beside A and B: biases, lengths of DoRA, modules that are saved whole. */
  others: { name: string; shape: number[]; elements: number }[];
  /** Null of PiSSA and OLoRA, whose spectrum is not that of what was learnt. */
  advice: RankAdvice | null;
  /** What looks wrong, a sentence each. */
  warnings: string[];
}

/**
 * The facts of an adapter's folder.
 * @param onLayer  called after each layer
 * @throws FormatError for a missing or damaged file, a config that is wrong, or an A without its B
 */
export async function inspectAdapter(
  folder: string,
  onLayer?: (done: number, of: number) => void | Promise<void>,
): Promise<AdapterFacts> {
  const json = await readJson(`${folder}/${CONFIG_FILE}`);
  const config = configFrom(`${folder}/${CONFIG_FILE}`, json);
  const path = `${folder}/${WEIGHTS_FILE}`;
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = factsOf(file.header.entries);
    const pairs = pairsOf(path, [...file.header.entries.keys()]);
    const layers: AdapterLayerFacts[] = [];
    for (const pair of pairs) {
      layers.push(await layerFacts(file, pair, config));
      await onLayer?.(layers.length, pairs.length);
    }
    const inPairs = new Set(pairs.flatMap(({ A, B }) => [A, B]));
    const others = tensors.filter(({ name }) => !inPairs.has(name));
    const finite = layers.filter(({ spectrum }) => spectrum !== null);
    const advice = decomposes(config.init_lora_weights)
      ? null
      : rankAdvice(new Map(finite.map((l) => [l.path, l.spectrum!])));
    return {
      kind: "adapter",
      path: folder,
      base: config.base_model_name_or_path,
      config,
      bytes: tensors.reduce((sum, t) => sum + t.bytes, 0) + file.header.dataStart,
      parameters: tensors.reduce((sum, t) => sum + t.elements, 0),
      types: byType(tensors),
      layers,
      others: others.map(({ name, shape, elements }) => ({ name, shape, elements })),
      advice,
      warnings: warningsOf(config, layers),
    };
  } finally {
    await file.close();
  }
}

interface Pair {
  path: string;
  isEmbedding: boolean;
  A: string;
  B: string;
}

const A_NAME = /^(?:base_model\.model\.)?(.*)\.lora_(?:A\.weight|embedding_A)$/;

/** The names of A and B of each layer, layer 2 before layer 10. */
function pairsOf(file: string, names: readonly string[]): Pair[] {
  const all = new Set(names);
  const inOrder = [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return inOrder.flatMap((A) => {
    const path = A.match(A_NAME)?.[1];
    if (path === undefined) return [];
    const B = A.replace(/lora_A\.weight$/, "lora_B.weight").replace(/embedding_A$/, "embedding_B");
    if (all.has(B)) return [{ path, isEmbedding: A.endsWith("embedding_A"), A, B }];
    throw new FormatError({ op: "inspect", arg: file, expected: `with ${B}`, got: `${A} alone` });
  });
}

async function layerFacts(
  file: SafetensorsFile,
  { path, isEmbedding, A, B }: Pair,
  config: CompleteLoraConfig,
): Promise<AdapterLayerFacts> {
  const [r, inner] = file.entry(A).shape as [number, number];
  const [out, other] = file.entry(B).shape as [number, number];
  const strength = strengthAt(path, config);
  if (other !== r || r !== strength.r) {
    const expected = `of rank ${strength.r}, as ${CONFIG_FILE} says`;
    const got = `[${file.entry(A).shape}] and [${file.entry(B).shape}]`;
    throw new FormatError({ op: "inspect", arg: `A and B of ${path}`, expected, got });
  }
  const [a, b] = [await hostValues(file, A), await hostValues(file, B)];
  const { scaling, lora_alpha } = strength;
  const allFinite = a.every(Number.isFinite) && b.every(Number.isFinite);
  const update = { A: a, B: b, r, in: inner, out, scaling };
  return {
    path,
    kind: isEmbedding ? "embedding" : "linear",
    ...{ r, lora_alpha, scaling, in: inner, out },
    parameters: a.length + b.length,
    normA: norm(a),
    normB: norm(b),
    spectrum: allFinite ? spectrumOf(update) : null,
  };
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
}

function warningsOf(
  { init_lora_weights: init, use_dora }: CompleteLoraConfig,
  layers: readonly AdapterLayerFacts[],
): string[] {
  const warnings: string[] = [];
  const broken = layers.filter(({ spectrum }) => spectrum === null).map(({ path }) => path);
  if (broken.length > 0) {
    warnings.push(`Not finite, so that it cannot be used: ${listed(broken)}.`);
  }
  const zeroLayers = layers.filter((l) => l.spectrum?.norm === 0).map(({ path }) => path);
  if (zeroLayers.length > 0) {
    const many = zeroLayers.length === layers.length ? "all" : `${zeroLayers.length} of ${layers.length}`; // biome-ignore format: one line
    warnings.push(`The update is zero in ${many} layers, which were not trained: ${listed(zeroLayers)}.`); // biome-ignore format: one line
  }
  if (decomposes(init)) {
    const what = `B·A still holds what ${init} took out of the base, so the spectrum is not that of what was learnt.`;
    warnings.push(`${what} Save with \`convert\` for that.`);
  }
  if (use_dora) {
    warnings.push("Spectra and norms are of s·B·A; DoRA then sets the length of each row.");
  }
  return warnings;
}

function listed(names: readonly string[]): string {
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return names.slice(0, 5).join(", ") + more;
}
