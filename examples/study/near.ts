// What else LoRA is tried with on other prose, with at most a tenth of the parameters: the variants, looked at on the
// text that is tuned on, and the ones of them that are reported.
import type { TrainConfig } from "../../src/train/recipe/schema.ts";
import type { Paths } from "./corpora.ts";
import { domainRun, type Experiment, SEEDS, STEPS } from "./experiments.ts";
import type { Result } from "./result.ts";

/** Adapters on all linear layers, or on those of the MLP alone. */
export type Layers = "all" | "mlp";

export interface Variant {
  title: string;
  layers: Layers;
  method?: TrainConfig["method"];
  lora?: Record<string, unknown>;
  training?: Record<string, unknown>;
  /** Learning rates that are tried. */
  rates: readonly number[];
}

const NORMS = { modules_to_save: ["input_layernorm", "post_attention_layernorm", "norm"] };

/** Alpha is twice the rank, as it is in plain LoRA here. */
const rank = (r: number) => ({ r, lora_alpha: 2 * r });

/** One rank for the MLP's layers, another one for attention's, which counts `scale` times. */
const ranks = (mlp: number, attention: number, scale = 2) => ({
  ...rank(mlp),
  rank_pattern: { "[qkvo]_proj": attention },
  alpha_pattern: { "[qkvo]_proj": scale * attention },
});

const mlp = (r: number) => ({ ...rank(r), target_modules: ["gate_proj", "up_proj", "down_proj"] });

const plus = (loraplus_lr_ratio: number, rates: readonly number[]) => ({
  title: `LoRA+, ratio ${loraplus_lr_ratio}`,
  ...({ layers: "all", method: "lora+", training: { loraplus_lr_ratio }, rates } as const),
});

/** By the names that their runs have. */
export const VARIANTS: Readonly<Record<string, Variant>> = {
  "plus-4": plus(4, [0.00316, 0.00562]),
  "plus-8": plus(8, [0.00316]),
  "plus-16": plus(16, [0.00178]),
  pissa: { title: "PiSSA", layers: "all", method: "pissa", rates: [0.001, 0.00316] },
  olora: { title: "OLoRA", layers: "all", method: "olora", rates: [0.001, 0.00316] },
  dora: { title: "DoRA", layers: "all", method: "dora", rates: [0.01] },
  fa: {
    title: "LoRA-FA, r 16",
    ...{ layers: "all", method: "lora-fa", lora: rank(16), rates: [0.01, 0.0316] },
  },
  "alpha-64": { title: "alpha 64", layers: "all", lora: { lora_alpha: 64 }, rates: [0.00562] },
  "r-9": { title: "r 9", layers: "all", lora: rank(9), rates: [0.0075] },
  "r-9-alpha-4": {
    title: "r 9, alpha 4",
    ...{ layers: "all", lora: { r: 9, lora_alpha: 4 }, rates: [0.0178] },
  },
  norms: { title: "norms trained too", layers: "all", lora: NORMS, rates: [0.01] },
  "r-9-norms": {
    title: "r 9, norms trained too",
    ...{ layers: "all", lora: { ...rank(9), ...NORMS }, rates: [0.01] },
  },
  "r-5-embedding": {
    title: "r 5, embedding and head trained too",
    layers: "all",
    lora: { ...rank(5), modules_to_save: ["embed_tokens"] },
    rates: [0.00562, 0.01],
  },
  "mlp-11-attention-5": {
    title: "MLP r 11, attention r 5",
    ...{ layers: "all", lora: ranks(11, 5), rates: [0.01] },
  },
  "mlp-12-attention-4": {
    title: "MLP r 12, attention r 4",
    ...{ layers: "all", lora: ranks(12, 4), rates: [0.01] },
  },
  "mlp-14-attention-2": {
    title: "MLP r 14, attention r 2",
    ...{ layers: "all", lora: ranks(14, 2), rates: [0.01] },
  },
  "mlp-14-attention-2-soft": {
    title: "MLP r 14, attention r 2 with a quarter of the scale",
    ...{ layers: "all", lora: ranks(14, 2, 0.5), rates: [0.01] },
  },
  "mlp-15-attention-1": {
    title: "MLP r 15, attention r 1",
    ...{ layers: "all", lora: ranks(15, 1), rates: [0.0075, 0.01] },
  },
  "mlp-15-attention-1-norms": {
    title: "MLP r 15, attention r 1, norms trained too",
    ...{ layers: "all", lora: { ...ranks(15, 1), ...NORMS }, rates: [0.01] },
  },
  "mlp-14": { title: "MLP alone, r 14", layers: "mlp", lora: mlp(14), rates: [0.01] },
  "mlp-16": {
    title: "MLP alone, r 16",
    ...{ layers: "mlp", lora: mlp(16), rates: [0.0075, 0.01, 0.0133] },
  },
  "mlp-16-plus-4": {
    ...plus(4, [0.00237, 0.00316, 0.00422]),
    ...{ title: "MLP alone, r 16, LoRA+, ratio 4", layers: "mlp", lora: mlp(16) },
  },
  "mlp-16-plus-8": {
    ...plus(8, [0.00178, 0.00316]),
    ...{ title: "MLP alone, r 16, LoRA+, ratio 8", layers: "mlp", lora: mlp(16) },
  },
  "mlp-12-attention-4-plus-4": {
    ...plus(4, [0.00316]),
    ...{ title: "MLP r 12, attention r 4, LoRA+, ratio 4", lora: ranks(12, 4) },
  },
  "mlp-15-attention-1-plus-4": {
    ...plus(4, [0.00316, 0.00422]),
    ...{ title: "MLP r 15, attention r 1, LoRA+, ratio 4", lora: ranks(15, 1) },
  },
};

/** A variant at one of its rates. */
export interface Choice {
  name: string;
  lr: number;
}

const CHOICES: readonly Choice[] = Object.entries(VARIANTS).flatMap(([name, { rates }]) =>
  rates.map((lr) => ({ name, lr })),
);

export function variantId({ name, lr }: Choice): string {
  return `tune/near/${name}-${lr}`;
}

function variantRun(
  paths: Paths,
  id: string,
  { name, lr }: Choice,
  asked: { seed: number; on: "tune" | "test"; steps?: number },
): Experiment {
  const { method, lora, training } = VARIANTS[name]!;
  const { seed, on, steps = STEPS } = asked;
  const how = { lr, lora, method, training: { ...training, steps } };
  return domainRun(paths, id, { domain: "near", arm: "lora", seed, on, ...how });
}

/** All of them on the text that is tuned on, with one seed. */
export function variantTuning(paths: Paths): Experiment[] {
  return CHOICES.map((choice) =>
    variantRun(paths, variantId(choice), choice, { seed: 0, on: "tune" }),
  );
}

/** Of the choices that put adapters on these layers the one with the lowest loss on the text that is tuned on. */
export function chosenVariant(results: ReadonlyMap<string, Result>, layers: Layers): Choice {
  const choices = CHOICES.filter(({ name }) => VARIANTS[name]!.layers === layers);
  const losses = choices.map(
    (choice) => results.get(variantId(choice))?.valid.after ?? Number.POSITIVE_INFINITY,
  );
  return choices[losses.indexOf(Math.min(...losses))]!;
}

/** What was chosen, on the text that is reported; the MLP's also three times as long. */
export function variantExperiments(
  paths: Paths,
  chosen: Readonly<Record<Layers, Choice>>,
): Experiment[] {
  const seeded = (name: string, choice: Choice, steps: number) =>
    SEEDS.map((seed) => variantRun(paths, `${name}-${seed}`, choice, { seed, on: "test", steps }));
  return [
    ...seeded("near/all", chosen.all, STEPS),
    ...seeded("near/mlp", chosen.mlp, STEPS),
    ...seeded("near/long", chosen.mlp, 3 * STEPS),
  ];
}
