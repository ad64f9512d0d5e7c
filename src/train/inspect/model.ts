// What a model's folder holds: architecture, sizes, types, and which layers an adapter can target. No weights are read.
import { existsSync } from "node:fs";
import { grouped } from "../../nn/fit_checkpoint.ts";
import { checkModelConfig } from "../../nn/pretrained.ts";
import { type PackedMatrix, packedMatrices } from "../../tensor/bitsandbytes.ts";
import { Checkpoint } from "../../tensor/checkpoint.ts";
import { readJson } from "../../tensor/files.ts";
import type { Entry } from "../../tensor/safetensors.ts";
import { byType, factsOf, type TensorFacts, type TypeFacts } from "./tensors.ts";

/** Linear layers of one name. */
export interface TargetFacts {
  /** What `target_modules` would list, such as `q_proj`. */
  name: string;
  layers: number;
  /** [out, in]; of GPT-2, which stores weights transposed, [in, out]. Of the first layer. */
  shape: number[];
  parameters: number;
  /** Whether `all-linear` means it: all but the output head. */
  isAllLinear: boolean;
}

export interface ModelFacts {
  kind: "model";
  path: string;
  /** `model_type` of config.json. */
  type: string;
  /** The fields of config.json that are numbers, texts or flags. */
  config: Record<string, string | number | boolean>;
  /** Why the model cannot be loaded here, or null. */
  problem: string | null;
  files: string[];
  parameters: number;
  bytes: number;
  types: Record<string, TypeFacts>;
  targets: TargetFacts[];
  /** Embeddings, which `target_modules` may name too. */
  embeddings: string[];
  hasTokenizer: boolean;
  hasChatTemplate: boolean;
  /** Names of all tensors, layers together, with the shape of the first. */
  tensors: { name: string; shape: number[]; dtype: string }[];
  /** What merge_certificate.json says, where an adapter was merged into these weights. */
  certificate: Record<string, unknown> | null;
}

/**
 * The facts of a model's folder.
 * @throws FormatError for a missing or damaged file
 */
export async function inspectModel(folder: string): Promise<ModelFacts> {
  const config = await readJson(`${folder}/config.json`);
  const checkpoint = await Checkpoint.open(folder);
  const { packed, damage } = await packedIn(checkpoint);
  await checkpoint.close();
  const entries = new Map<string, Entry>();
  for (const name of checkpoint.files.keys()) entries.set(name, checkpoint.entry(name)!);
  const tensors = asMatrices(factsOf(entries), packed);
  const files = [...new Set(Array.from(checkpoint.files.values(), ({ path }) => path))];
  const certificate = `${folder}/merge_certificate.json`;
  return {
    kind: "model",
    path: folder,
    type: `${config.model_type}`,
    config: plainFields(config),
    problem: problemOf(config, folder) ?? damage,
    files: files.map((path) => path.slice(folder.length + 1)),
    parameters: tensors.reduce((sum, t) => sum + t.elements, 0),
    bytes: tensors.reduce((sum, t) => sum + t.bytes, 0),
    types: byType(tensors),
    targets: targetsOf(tensors),
    embeddings: names(tensors.filter(isEmbedding)),
    ...(await textFacts(folder)),
    tensors: together(tensors),
    certificate: existsSync(certificate) ? await readJson(certificate) : null,
  };
}

async function packedIn(checkpoint: Checkpoint) {
  try {
    return { packed: await packedMatrices(checkpoint), damage: null };
  } catch (error) {
    return { packed: new Map<string, PackedMatrix>(), damage: (error as Error).message };
  }
}

/** Quantised matrices as one tensor each, of the type that they stand for. */
function asMatrices(
  tensors: readonly TensorFacts[],
  packed: ReadonlyMap<string, PackedMatrix>,
): TensorFacts[] {
  const ofMatrix = new Map<string, PackedMatrix>();
  for (const matrix of packed.values()) for (const part of matrix.parts) ofMatrix.set(part, matrix);
  const bytes = new Map<PackedMatrix, number>();
  for (const t of tensors) {
    const matrix = ofMatrix.get(t.name);
    if (matrix) bytes.set(matrix, (bytes.get(matrix) ?? 0) + t.bytes);
  }
  return tensors.flatMap((t) => {
    const matrix = ofMatrix.get(t.name);
    if (!matrix) return [t];
    if (matrix.name !== t.name) return [];
    const { name, type, shape } = matrix;
    const elements = shape[0] * shape[1];
    return [{ name, dtype: type.toUpperCase(), shape, elements, bytes: bytes.get(matrix)! }];
  });
}

function plainFields(config: Record<string, unknown>): ModelFacts["config"] {
  const isPlain = ([, value]: [string, unknown]) => ["string", "number", "boolean"].includes(typeof value); // biome-ignore format: one line
  return Object.fromEntries(Object.entries(config).filter(isPlain)) as ModelFacts["config"];
}

function problemOf(config: Record<string, unknown>, folder: string): string | null {
  try {
    checkModelConfig(config, `${folder}/config.json`);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

async function textFacts(folder: string) {
  const hasTokenizer = existsSync(`${folder}/tokenizer.json`);
  const config = `${folder}/tokenizer_config.json`;
  const { chat_template: template } = existsSync(config) ? await readJson(config) : {};
  const hasChatTemplate = Boolean(template) || existsSync(`${folder}/chat_template.jinja`);
  return { hasTokenizer, hasChatTemplate };
}

/** The layer that a weight belongs to, such as `q_proj`; null of what is no matrix of a layer. */
function leafOf({ name, shape }: TensorFacts): string | null {
  const [, path] = name.match(/^(.*)\.weight$/) ?? [];
  return path === undefined || shape.length !== 2 ? null : path.split(".").pop()!;
}

const EMBEDDINGS = ["embed_tokens", "wte", "wpe"];

function isEmbedding(tensor: TensorFacts): boolean {
  return EMBEDDINGS.includes(leafOf(tensor) ?? "");
}

function names(tensors: readonly TensorFacts[]): string[] {
  return [...new Set(tensors.map((t) => leafOf(t)!))];
}

function targetsOf(tensors: readonly TensorFacts[]): TargetFacts[] {
  const found = new Map<string, TargetFacts>();
  for (const tensor of tensors) {
    const name = leafOf(tensor);
    if (name === null || isEmbedding(tensor)) continue;
    const { layers = 0, parameters = 0, shape = tensor.shape } = found.get(name) ?? {};
    found.set(name, {
      name,
      layers: layers + 1,
      shape,
      parameters: parameters + tensor.elements,
      isAllLinear: name !== "lm_head",
    });
  }
  return [...found.values()];
}

/** Tensors that differ by their layer alone as one. */
function together(tensors: readonly TensorFacts[]): ModelFacts["tensors"] {
  const groups = new Map<string, TensorFacts[]>();
  for (const t of tensors) {
    const key = `${t.name.replace(/\.\d+\./, ".#.")} ${t.shape} ${t.dtype}`;
    groups.set(key, [...(groups.get(key) ?? []), t]);
  }
  return [...groups.values()].map((group) => {
    const [name] = grouped(group.map((t) => t.name));
    const { shape, dtype } = group[0]!;
    return { name: name!, shape, dtype };
  });
}
