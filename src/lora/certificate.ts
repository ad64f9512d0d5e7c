// What a merge cost: how far the logits moved on a probe, and for each layer how far any result can.
import { noGrad } from "../autograd/graph.ts";
import { ValueError } from "../gpu/errors.ts";
import { doraNorm } from "../kernels/dora_norm.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { savePretrained } from "../nn/pretrained.ts";
import { zeros } from "../tensor/create.ts";
import { writeFileSafely } from "../tensor/files.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Lora } from "./lora.ts";
import type { LoraLayer } from "./lora_layer.ts";
import { checkHeadApart } from "./tied_head.ts";

export const CERTIFICATE_FILE = "merge_certificate.json";

export interface LayerCertificate {
  dtype: string;
  /**
   * Of every row of the merged weight, the rounding error's length is at most this: a result differs
   * from the unmerged layer's by at most `bound`·‖x‖, and what f32 sums cost.
   */
  bound: number;
}

export interface MergeCertificate {
  adapters: readonly string[];
  /** Sequences and tokens of the probe. */
  probe: readonly number[];
  /** Largest difference of logits between merged and not. */
  maxLogitDifference: number;
  /** Largest magnitude of the unmerged logits. */
  maxLogit: number;
  layers: Record<string, LayerCertificate>;
}

/** Half the distance of neighbours near 1, and the spacing of the smallest numbers. */
const ROUNDING: Record<string, [unit: number, least: number]> = {
  f32: [2 ** -24, 2 ** -150],
  f16: [2 ** -11, 2 ** -25],
  bf16: [2 ** -8, 2 ** -134],
};

/**
 * Merges the active adapters, safely, and measures what that changed.
 * @param probe  ids [sequences, tokens] on which logits are compared
 * @throws ValueError for adapters that are merged already or hold what is not finite
 */
export async function mergeWithCertificate(
  lora: Lora,
  model: CausalLM,
  probe: Tensor,
): Promise<MergeCertificate> {
  if (lora.merged) {
    const facts = { arg: "the adapters", expected: "not merged", got: "merged ones" };
    throw new ValueError({ op: "mergeWithCertificate", ...facts });
  }
  const modules = [...model.namedModules()].map(([, m]) => [m, m.training] as const);
  model.eval();
  try {
    const logits = async () => (await noGrad(() => model.call(probe)).data()) as Float32Array;
    const before = await logits();
    await lora.mergeSafely();
    const after = await logits();
    let [maxLogitDifference, maxLogit] = [0, 0];
    for (const [i, v] of before.entries()) {
      maxLogitDifference = Math.max(maxLogitDifference, Math.abs(v - after[i]!));
      maxLogit = Math.max(maxLogit, Math.abs(v));
    }
    const layers: Record<string, LayerCertificate> = {};
    for (const [path, layer] of lora.layers) {
      if (layer.merged) layers[path] = await layerCertificate(layer);
    }
    const adapters = [...lora.activeAdapters];
    return { adapters, probe: [...probe.shape], maxLogitDifference, maxLogit, layers };
  } finally {
    for (const [m, training] of modules) m.training = training;
  }
}

/** unit·‖W'_o‖ + least·√in bounds the length of a row's rounding error; sums of r + 1 terms add their own. */
async function layerCertificate(layer: LoraLayer): Promise<LayerCertificate> {
  using _ = scope();
  const { weight } = layer.base_layer;
  const { sizes, transposed } = layer;
  const [unit, least] = ROUNDING[weight.dtype]!;
  const norms = await doraNorm(weight, zeros([1, sizes.in]), zeros([sizes.out, 1]), 0, {
    transposed,
  }).data();
  const products = await productsOf(layer);
  let bound = 0;
  for (const [o, norm] of norms.entries()) {
    const sums = 2 ** -23 * (products[o]! + norm);
    bound = Math.max(bound, unit * norm + least * Math.sqrt(sizes.in) + sums);
  }
  return { dtype: weight.dtype, bound };
}

/** Σ over ranks of (terms)·|s·B_oj|·‖A_j‖, which bounds what the f32 sums of the updates can lose. */
async function productsOf({ active, sizes, weight, transposed }: LoraLayer): Promise<Float64Array> {
  const total = new Float64Array(sizes.out);
  const base = await doraNorm(weight, zeros([1, sizes.in]), zeros([sizes.out, 1]), 0, {
    transposed,
  }).data();
  for (const update of active) {
    const [A, B] = [await update.lora_A.data(), await update.lora_B.data()];
    const { r, scaling } = update;
    for (let j = 0; j < r; j++) {
      let square = 0;
      for (let i = 0; i < sizes.in; i++) square += A[j * sizes.in + i]! ** 2;
      const length = Math.sqrt(square) * Math.abs(scaling) * (r + 3);
      for (let o = 0; o < sizes.out; o++) total[o]! += Math.abs(B[o * r + j]!) * length;
    }
    // DoRA's factor multiplies all of it, and is rounded itself.
    if (update.lora_magnitude_vector) for (let o = 0; o < sizes.out; o++) total[o]! += 4 * base[o]!;
  }
  return total;
}

/**
 * Merges the active adapters and writes the model as a folder that `fromPretrained` and Transformers
 * load, with the certificate beside it; then the model is as it was.
 * @param probe  ids [sequences, tokens] for the certificate
 * @throws ValueError where an adapted embedding is the output head too, and as `mergeWithCertificate`
 */
export async function saveMerged(
  lora: Lora,
  model: CausalLM,
  folder: string,
  probe: Tensor,
): Promise<MergeCertificate> {
  checkHeadApart("saveMerged", lora);
  const certificate = await mergeWithCertificate(lora, model, probe);
  try {
    await lora.asPlainModel(() => savePretrained(model, folder));
    const text = `${JSON.stringify(certificate, null, 2)}\n`;
    await writeFileSafely(`${folder}/${CERTIFICATE_FILE}`, text);
    return certificate;
  } finally {
    lora.unmerge();
  }
}
