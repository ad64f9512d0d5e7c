// What the study runs: every run is a configuration of `lowrank train`, named by what it is asked.
import type { TrainConfig } from "../../src/train/recipe/schema.ts";
import type { Paths } from "./corpora.ts";

/** Other prose, code, and ten thousand characters of the prose, seen again and again with early stopping. */
export type Domain = "near" | "far" | "small";
export type Arm = "lora" | "full";

export interface Experiment {
  /** Folder of the run, and its name in results.json. */
  id: string;
  config: Omit<TrainConfig, "output" | "model">;
}

export const SEEDS = [1, 2, 3];
export const STEPS = 120;
const LENGTH = 64;
const RANK = 8;

export const RATES: Readonly<Record<Arm, readonly number[]>> = {
  lora: [0.001, 0.00316, 0.00562, 0.01, 0.0178, 0.0316],
  full: [0.000316, 0.001, 0.00178, 0.00316, 0.00562, 0.01],
};

/** Finer about the best, for both arms, where 90 % of full fine-tuning's fall is the mark. */
const NEAR_RATES: typeof RATES = {
  lora: [0.001, 0.00316, 0.00562, 0.0075, 0.01, 0.0133, 0.0178, 0.0316],
  full: [0.000316, 0.001, 0.00133, 0.00178, 0.00237, 0.00316, 0.00562, 0.01],
};

const SMALL_RATES: typeof RATES = {
  lora: [0.000562, 0.001, 0.00178, 0.00316, 0.00562, 0.01],
  full: [0.000178, 0.000316, 0.000562, 0.001, 0.00178],
};

export interface Asked {
  domain: Domain;
  arm: Arm;
  lr: number;
  seed: number;
  /** Which part of the held-out text is looked at. */
  on: "tune" | "test";
  lora?: Record<string, unknown>;
  training?: Record<string, unknown>;
  data?: Record<string, unknown>;
  method?: TrainConfig["method"];
}

/** A run on one of the domains. */
export function domainRun(paths: Paths, id: string, asked: Asked): Experiment {
  const { domain, arm, lr, seed, on, lora = {}, training = {}, data = {} } = asked;
  const texts = domain === "far" ? paths.code : paths.novel;
  const isSmall = domain === "small";
  const method = asked.method ?? arm;
  return {
    id,
    config: {
      tokenizer: "bytes",
      base_dtype: method === "full" ? "auto" : "f32",
      method,
      seed,
      ...(method === "full" ? {} : { lora: { r: RANK, lora_alpha: 2 * RANK, ...lora } }),
      data: {
        train: [isSmall ? paths.novel.small : texts.train],
        valid: [texts[on]],
        general: [paths.speeches.test],
        length: LENGTH,
        rows: "windows",
        ...data,
      },
      training: {
        steps: STEPS,
        batch: 8,
        lr,
        warmup: 10,
        eval_every: 10 * STEPS, // the end is looked at in any case
        eval_rows: 96,
        checkpoint_every: 0,
        ...(isSmall ? { eval_every: STEPS / 12, patience: 4 } : {}),
        ...training,
      },
    },
  };
}

export const DOMAINS: readonly Domain[] = ["near", "far", "small"];
export const ARMS: readonly Arm[] = ["lora", "full"];

/** Learning rates of both arms on each domain, looked at on text that is not reported. */
export function tuning(paths: Paths, seed = 0): Experiment[] {
  return DOMAINS.flatMap((domain) =>
    ARMS.flatMap((arm) =>
      ratesOf(domain, arm).map((lr) =>
        domainRun(paths, tuningId(domain, arm, lr, seed), { domain, arm, lr, seed, on: "tune" }),
      ),
    ),
  );
}

const RATES_OF = { near: NEAR_RATES, far: RATES, small: SMALL_RATES };

/** The rates that are tried: on the small text lower ones, for it is seen again and again. */
export function ratesOf(domain: Domain, arm: Arm): readonly number[] {
  return RATES_OF[domain][arm];
}

export function tuningId(domain: Domain, arm: Arm, lr: number, seed = 0): string {
  return `tune/${domain}-${arm}-${lr}${seed === 0 ? "" : `/seed-${seed}`}`;
}

/** The best rate of an arm on a domain. */
export type BestRate = (domain: Domain, arm: Arm) => number;

/** Everything that uses the tuned rates, most wanted first. */
export function experiments(paths: Paths, best: BestRate): Experiment[] {
  const seeded = (name: string, asked: Omit<Asked, "seed" | "lr" | "on"> & { lr?: number }) =>
    SEEDS.map((seed) =>
      domainRun(paths, `${name}-${seed}`, {
        lr: best(asked.domain, asked.arm),
        on: "test",
        ...asked,
        seed,
      }),
    );
  const far = { domain: "far", arm: "lora" } as const;
  const withLora = (name: string, lora: Record<string, unknown>) => seeded(name, { ...far, lora });
  const main = DOMAINS.flatMap((domain) =>
    ARMS.flatMap((arm) => seeded(`main/${domain}-${arm}`, { domain, arm })),
  );
  const replay = ARMS.flatMap((arm) =>
    seeded(`replay/far-${arm}`, {
      domain: "far",
      arm,
      data: { replay: { data: [paths.speeches.train], share: 0.25 } },
    }),
  );
  const ranks = [1, 4, 16, 64].flatMap((r) => withLora(`rank/${r}`, { r, lora_alpha: 2 * r }));
  ranks.push(...seeded("rank/64-slow", { ...far, lr: 0.00316, lora: { r: 64, lora_alpha: 128 } }));
  const long = { steps: 3 * STEPS };
  const closing = [
    ...withLora("close/embedding", { modules_to_save: ["embed_tokens"] }),
    ...seeded("close/long", { ...far, training: long }),
  ];
  const attention = ["q_proj", "k_proj", "v_proj", "o_proj"];
  const targets = [
    ...withLora("targets/qv", { target_modules: ["q_proj", "v_proj"] }),
    ...withLora("targets/attention", { target_modules: attention }),
    ...withLora("targets/attention-wide", { target_modules: attention, r: 19, lora_alpha: 38 }),
    ...withLora("targets/mlp", { target_modules: ["gate_proj", "up_proj", "down_proj"] }),
  ];
  const small = [0, 0.1, 0.3].flatMap((lora_dropout) =>
    seeded(`small/dropout-${lora_dropout}`, {
      domain: "near",
      arm: "lora",
      lora: { lora_dropout },
      data: { train: [paths.novel.small] },
      training: { steps: 2 * STEPS, eval_every: STEPS / 6 },
    }),
  );
  const sensitivity = [4, 16, 64].flatMap((lora_alpha) =>
    RATES.lora.map((lr) =>
      domainRun(paths, `sensitivity/alpha-${lora_alpha}-lr-${lr}`, {
        ...{ domain: "near", arm: "lora", on: "tune", seed: 0 },
        ...{ lr, lora: { lora_alpha } },
      }),
    ),
  );
  const longer = ARMS.flatMap((arm) =>
    seeded(`long/near-${arm}`, { domain: "near", arm, training: long }),
  );
  const methods = [
    ...seeded("methods/dora", { ...far, method: "dora" }),
    // B learns 16 times as fast as A, which has the rate that is given.
    ...seeded("methods/lora+", { ...far, method: "lora+", lr: 0.001 }),
  ];
  const first = [main, replay, skill(paths), closing, longer, ranks];
  return [...first, targets, small, sensitivity, methods].flat();
}

/** First and last letters: loss on the answers alone, and exact match afterwards. */
function skill(paths: Paths): Experiment[] {
  return SEEDS.map((seed) => {
    const run = domainRun(paths, `skill/lora-${seed}`, {
      ...{ domain: "far", arm: "lora", on: "test", seed },
      ...{ lr: 0.003, training: { steps: 300, warmup: 20 } },
    });
    const { skill, speeches } = paths;
    const data = {
      train: [skill.train],
      valid: [skill.tune],
      general: [speeches.test],
      length: LENGTH,
      long: "split" as const,
    };
    return { ...run, config: { ...run.config, data } };
  });
}
