// A checkpoint's folder and an adapter's folder, merged into a new folder, one tensor after the other.
import { ValueError } from "../gpu/errors.ts";
import { bytesAs } from "../kernels/cast.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { withEmptyWeights } from "../nn/init.ts";
import { type Conv1D, Embedding, type Linear } from "../nn/layers.ts";
import { type LoadProgress, modelFromConfig } from "../nn/pretrained.ts";
import { Checkpoint } from "../tensor/checkpoint.ts";
import type { DType } from "../tensor/dtype.ts";
import { diskError, readJson, writeFileSafely } from "../tensor/files.ts";
import { ownDType } from "../tensor/safetensors.ts";
import { type Part, writeSafetensors } from "../tensor/safetensors_file.ts";
import { Tensor } from "../tensor/tensor.ts";
import { decompose, decomposes } from "./decompose.ts";
import { allFinite } from "./finite.ts";
import { Lora, type Planned } from "./lora.ts";
import type { LoraLayer } from "./lora_layer.ts";
import { LoraWeights } from "./lora_weights.ts";
import { fillValues, peftStateDict, readAdapter } from "./peft.ts";

const OTHERS =
  /^(config|generation_config|tokenizer.*|special_tokens_map|vocab|added_tokens|merges|chat_template)\.(json|txt|model|jinja)$/;

/**
 * Writes `base` with the adapter merged into it to `out`, which Transformers and `fromPretrained` load.
 * Each tensor is read, merged with f32 sums, rounded to its own type and written before the next: memory
 * holds the largest tensor and the adapter, not the model. The model's other files are copied.
 * @param base  folder with config.json and safetensors
 * @param adapter  folder with adapter_config.json and adapter_model.safetensors
 * @param onProgress  called after each tensor
 * @throws FormatError, ValueError where the adapter does not fit or a merged weight is not finite;
 *   no weights are left in `out` then
 */
export async function mergeFolder(
  base: string,
  adapter: string,
  out: string,
  onProgress?: (progress: LoadProgress) => void,
): Promise<void> {
  if (base === out) {
    throw new ValueError({
      op: "mergeFolder",
      arg: "out",
      expected: "another folder than base",
      got: out,
    });
  }
  const config = await readJson(`${base}/config.json`);
  if (config.quantization_config) {
    const facts = { expected: "of weights that are not quantised", got: "quantization_config" };
    const hint = "Load it with `dtype`, merge, and save it with `savePretrained`.";
    throw new ValueError({ op: "mergeFolder", arg: base, ...facts, hint });
  }
  const model = withEmptyWeights(() => modelFromConfig(config, `${base}/config.json`));
  const checkpoint = await Checkpoint.open(base);
  let lora: Lora | null = null;
  try {
    const read = await readAdapter(model, adapter, { compareBases: false });
    lora = new Lora(model);
    const merger = new Merger(lora, model, checkpoint);
    await merger.loadSmall(read.planned);
    lora.put("default", read.planned);
    fillValues(lora, "default", read.state);
    for (const t of read.state.values()) t.dispose();
    lora.setAdapter("default");
    const tell = (name: string, bytesDone: number, bytesTotal: number) =>
      onProgress?.({ name, bytesDone, bytesTotal });
    const file = `${out}/model.safetensors`;
    await writeSafetensors(file, merger.parts(), { format: "pt" }, tell);
    await copyOthers(base, out);
    if (!merger.untied) return;
    const text = JSON.stringify({ ...config, tie_word_embeddings: false }, null, 2);
    await writeFileSafely(`${out}/config.json`, `${text}\n`);
  } finally {
    await checkpoint.close();
    lora?.remove();
    model.dispose();
  }
}

class Merger {
  private readonly prefix: string;

  constructor(
    private readonly lora: Lora,
    private readonly model: CausalLM,
    private readonly checkpoint: Checkpoint,
  ) {
    const { bodyPrefix } = model;
    const stored = [...checkpoint.files.keys()];
    this.prefix = stored.some((name) => name.startsWith(bodyPrefix)) ? "" : bodyPrefix;
  }

  /** Whether the head must get weights of its own, for the embedding that it was is changed. */
  get untied(): boolean {
    const { lora, model, checkpoint } = this;
    const path = model.embeddingPath.replace(/\.weight$/, "");
    const tied =
      !model.stateDict().has("lm_head.weight") && !checkpoint.files.has("lm_head.weight");
    return tied && (lora.layers.has(path) || lora.saved.has(path));
  }

  /** Reads what the adapter copies: all vectors, and the layers that it saves whole. */
  async loadSmall({ plan }: Planned): Promise<void> {
    const inSaved = (name: string) =>
      [...plan.saved.keys()].some((path) => name.startsWith(`${path}.`));
    for (const [name, p] of this.model.stateDict()) {
      const stored = this.storedName(name);
      if (!(p.rank === 1 || inSaved(name)) || !this.checkpoint.files.has(stored)) continue;
      const t = Tensor.empty("mergeFolder", p.shape, "f32");
      await this.checkpoint.files.get(stored)!.fill(t, stored);
      this.model.setParameter(name, t);
      p.dispose();
    }
  }

  private storedName(name: string): string {
    return name === "lm_head.weight" ? name : name.slice(this.prefix.length);
  }

  parts(): Map<string, Part> {
    const parts = new Map<string, Part>();
    const whole = new Map(
      Object.entries(peftStateDict(this.lora, "default")).flatMap(([name, t]) => {
        const own = name.replace("base_model.model.", "");
        return /\.lora_/.test(own) ? [] : [[own.replace(".base_layer.", "."), t] as const];
      }),
    );
    for (const [stored, file] of this.checkpoint.files) {
      const { shape, dtype: type } = this.checkpoint.entry(stored)!;
      const dtype = ownDType(file.path, stored, type);
      const name = stored === "lm_head.weight" ? stored : this.prefix + stored;
      const [, path, kind] = name.match(/^(.*)\.(weight|bias)$/) ?? [];
      const layer = path === undefined ? undefined : this.lora.layers.get(path);
      const replaced = whole.get(name);
      const hasBias = [...(layer?.adapters.values() ?? [])].some((u) => u.lora_bias);
      const changed = layer && (kind === "weight" || hasBias);
      const bytes = replaced
        ? () => bytesAs(replaced, dtype)
        : changed
          ? () => this.merged(path!, kind as "weight" | "bias", dtype)
          : () => this.raw(stored);
      parts.set(stored, { dtype, shape, bytes });
    }
    if (this.untied) {
      const stored = this.storedName(this.model.embeddingPath);
      const part = parts.get(stored)!;
      parts.set("lm_head.weight", { ...part, bytes: () => this.raw(stored) });
    }
    return parts;
  }

  private raw(stored: string): Promise<Uint8Array> {
    return this.checkpoint.files.get(stored)!.bytes(stored);
  }

  private load(path: string, kind: string): Promise<Tensor> {
    const stored = this.storedName(`${path}.${kind}`);
    return this.checkpoint.files.get(stored)!.load(stored);
  }

  /** Loads one layer's base, merges, hands the bytes out and frees it. */
  private async merged(path: string, kind: "weight" | "bias", dtype: DType): Promise<Uint8Array> {
    const layer = this.lora.layers.get(path)!;
    const base = layer.base_layer as Linear | Conv1D | Embedding;
    const weight = await this.load(path, "weight");
    const bias = kind === "bias" ? await this.load(path, "bias") : null;
    const empty = { weight: base.weight, bias: base instanceof Embedding ? null : base.bias };
    try {
      base.weight = weight;
      if (bias && !(base instanceof Embedding)) (base as Linear).bias = bias;
      await this.takeOut(layer);
      layer.merge();
      const made = kind === "weight" ? base.weight : (base as Linear).bias!;
      const bytes = await bytesAs(made, dtype);
      if (allFinite(bytes, dtype)) return bytes;
      const facts = {
        arg: `the merged ${kind} of ${path}`,
        expected: "finite",
        got: "infinity or NaN",
      };
      throw new ValueError({ op: "mergeFolder", ...facts });
    } finally {
      layer.unmerge();
      base.weight.dispose();
      weight.dispose();
      bias?.dispose();
      base.weight = empty.weight;
      if (!(base instanceof Embedding)) (base as Linear).bias = empty.bias;
    }
  }

  /** Leaves in the base what an adapter of PiSSA or OLoRA was trained beside. */
  private async takeOut(layer: LoraLayer): Promise<void> {
    const config = this.lora.config("default");
    const [update] = layer.active;
    if (!update || !decomposes(config.init_lora_weights)) return;
    using start = new LoraWeights(layer.sizes, update.r, update.scaling, config);
    await decompose(layer, start, config.init_lora_weights);
  }
}

/**
 * Copies what a model's folder holds beside the weights: configurations, tokenizer, templates.
 * @param existing  whether files that `out` has already are replaced
 */
export async function copyOthers(base: string, out: string, existing = true): Promise<void> {
  const { copyFile, existsSync, readdir } = await import("../tensor/disk.node.ts");
  for (const file of await readdir(base)) {
    if (!OTHERS.test(file) || (!existing && existsSync(`${out}/${file}`))) continue;
    const to = `${out}/${file}`;
    try {
      await copyFile(`${base}/${file}`, to);
    } catch (error) {
      throw diskError(to, error);
    }
  }
}
