// Folders of runs and sweeps as `train` and `sweep` write them, made up but of the right shape.
import { mkdirSync, writeFileSync } from "node:fs";

/** A repeatable stream of numbers in [0, 1). */
export function numbers(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return state / 4294967296;
  };
}

export interface Made {
  method?: string;
  r?: number;
  lr?: number;
  steps?: number;
  /** Step from which the validation loss rises; absent: never. */
  turns?: number;
  /** How far the general loss rises. */
  forgets?: number;
  /** How far the loss falls. */
  learns?: number;
  skipped?: number[];
  stopped?: string;
  seed?: number;
  peak?: Record<string, number>;
  model?: string;
  /** Whether the rate was found by a range test. */
  searched?: boolean;
}

const MIB = 2 ** 20;

/** The lines of metrics.jsonl. */
export function metricsOf(made: Made): Record<string, unknown>[] {
  const { steps = 400, lr = 1e-3, turns = Infinity, forgets = 0.12, learns = 1.3, seed = 1 } = made;
  const random = numbers(seed);
  const lines: Record<string, unknown>[] = [];
  let [sum, weight] = [0, 0];
  const fell = (step: number) => learns * (1 - Math.exp(-step / (steps / 4)));
  const looks = (step: number) => {
    const up = Math.max(0, (step - turns) / steps) * 1.1;
    const loss = 3.4 - fell(Math.min(step, turns)) + up + 0.01 * random();
    lines.push({ kind: "valid", step, loss });
    const general = 2.9 + forgets * (1 - Math.exp(-step / (steps / 3))) + 0.004 * random();
    if (step % (steps / 5) === 0) lines.push({ kind: "general", step, loss: general });
  };
  for (let step = 1; step <= steps; step++) {
    const skipped = made.skipped?.includes(step) ?? false;
    const loss =
      3.35 - fell(step) - (step > turns ? (step - turns) / steps : 0) + 0.5 * (random() - 0.5);
    sum = 0.95 * sum + 0.05 * loss;
    weight = 0.95 * weight + 0.05;
    const warm = Math.min(1, step / (steps / 20));
    lines.push({
      kind: "step",
      step,
      loss: skipped ? null : loss,
      smoothed_loss: sum / weight,
      lr: lr * warm * 0.5 * (1 + Math.cos((Math.PI * step) / steps)),
      grad_norm: skipped
        ? null
        : 0.5 + random() + 2.5 * Math.exp(-step / 25) + (random() > 0.99 ? 9 : 0),
      step_ms: 41 + 6 * random() + (step === 1 ? 900 : 0),
      tokens_per_second: 24_000,
      skipped,
    });
    if (step % (steps / 20) === 0) looks(step);
  }
  const ops: [string, number, number, number, number][] = [
    ["lora_linear_forward", 112, 9.8, 5.1e9, 0.62],
    ["matmul_nt", 57, 8.1, 4.4e9, 0.7],
    ["lora_linear_backward_x", 112, 7.4, 4.9e9, 0.66],
    ["attention_backward", 8, 3.1, 1.2e9, 0.41],
    ["linear_cross_entropy_forward", 1, 2.6, 1.9e9, 0.58],
    ["attention_forward", 8, 1.9, 0.8e9, 0.45],
    ["rms_norm_backward", 17, 0.8, 1e7, 0.71],
    ["swiglu_forward", 8, 0.5, 1e7, 0.83],
    ["adamw", 1, 0.4, 2e7, 0.9],
    ["rope", 32, 0.4, 1e7, 0.6],
    ["copy_permute", 64, 0.3, 0, 0.4],
    ["embedding_forward", 1, 0.1, 0, 0.3],
  ];
  for (const [op, calls, gpu_ms, flops, roofline] of ops) {
    lines.push({ kind: "profile", op, calls, gpu_ms, flops, bytes: 1e7, roofline });
  }
  return lines;
}

/** A range test: the loss falls, has a floor, and rises; its last point is not finite. */
export function rangeTest() {
  const points = Array.from({ length: 33 }, (_, i) => {
    const lr = 1e-6 * 10 ** (i / 6.5);
    const change = -1.4 / (1 + (2e-3 / lr) ** 2) + 30 * lr ** 2;
    return { lr, loss: 3 + change, change };
  });
  const last = { lr: 0.12, loss: null, change: null };
  return { lr: 0.002, lowest: 0.041, diverged: 0.12, points: [...points, last] };
}

/** run.json that goes with them. */
export function runJsonOf(
  made: Made,
  lines: readonly Record<string, unknown>[],
): Record<string, unknown> {
  const { method = "lora", r = 16, lr = 1e-3, steps = 400 } = made;
  const losses = (kind: string) =>
    lines.filter((line) => line.kind === kind) as { step: number; loss: number }[];
  const [valid, general] = [losses("valid"), losses("general")];
  const best = valid.reduce((a, b) => (b.loss < a.loss ? b : a));
  const full = method === "full";
  return {
    format: 1,
    ...(made.searched ? { found_rate: rangeTest() } : {}),
    config: {
      model: made.model ?? "example/model-135M",
      output: "out/run",
      seed: 0,
      method,
      ...(full
        ? {}
        : { lora: { r, lora_alpha: 2 * r, lora_dropout: 0.05, target_modules: "all-linear" } }),
      data: {
        train: ["data/wgsl.jsonl"],
        valid: 0.1,
        length: 256,
        rows: "packed",
        replay: null,
        general: ["data/prose.txt"],
      },
      training: {
        steps,
        batch: 4,
        accumulate: 2,
        lr,
        warmup: steps / 20,
        schedule: "cosine",
        weight_decay: 0.01,
        clip: 1,
        eval_every: steps / 20,
        patience: 5,
      },
    },
    command: ["lowrank", "train", "--config", "run.yaml"],
    version: "0.1.0",
    adapter: { class: "gpu", description: "Example GPU (Vulkan)" },
    started: "2026-11-25T03:10:00.000Z",
    ended: "2026-11-25T03:10:38.000Z",
    stopped: made.stopped ?? "steps",
    parameters: full
      ? { trainable: 134_515_008, total: 134_515_008, share: 1 }
      : { trainable: 4_884_480, total: 139_399_488, share: 0.035 },
    memory: {
      peak_bytes:
        made.peak ??
        (full
          ? {
              base: 513 * MIB,
              gradients: 513 * MIB,
              optimiser: 1026 * MIB,
              activations: 322 * MIB,
              workspace: 61 * MIB,
            }
          : {
              base: 513 * MIB,
              adapters: 19 * MIB,
              gradients: 19 * MIB,
              optimiser: 37 * MIB,
              activations: 341 * MIB,
              workspace: 58 * MIB,
            }),
    },
    step_ms: full ? 71.2 : 44.1,
    tokens_per_second: full ? 28_700 : 46_400,
    adapter_bytes: full ? 538 * MIB : 18.7 * MIB,
    valid: { before: 3.402, after: best.loss, best },
    general: {
      before: 2.901,
      after: general.at(-1)!.loss,
      forgetting: general.at(-1)!.loss - 2.901,
    },
    train_tokens: 1_204_332,
    valid_tokens: 133_807,
  };
}

/** Writes a run's folder. */
export function makeRun(folder: string, made: Made = {}): void {
  mkdirSync(folder, { recursive: true });
  const lines = metricsOf(made);
  writeFileSync(
    `${folder}/metrics.jsonl`,
    lines.map((line) => `${JSON.stringify(line)}\n`).join(""),
  );
  writeFileSync(`${folder}/run.json`, JSON.stringify(runJsonOf(made, lines)));
}

/** Writes a sweep's folder: rank, alpha and learning rate, bad ones stopped early. */
export function makeSweep(folder: string, { trials = 24 } = {}): void {
  mkdirSync(folder, { recursive: true });
  const random = numbers(7);
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!;
  const lines = Array.from({ length: trials }, (_, trial) => {
    const r = pick([4, 8, 16, 32]);
    const alpha = pick([8, 16, 32, 64]);
    const lr = 10 ** (-4.3 + 2.3 * random());
    const target_modules = pick(["all-linear", "q_proj, v_proj"]);
    const far = Math.log10(lr * Math.sqrt(alpha / r)) + 3;
    const objective =
      2.1 +
      0.25 * far * far +
      0.3 / r ** 0.7 +
      (target_modules === "all-linear" ? 0 : 0.08) +
      0.03 * random();
    const steps = objective < 2.3 ? 400 : objective < 2.5 ? 200 : 100;
    const learns = 3.4 - objective + (steps < 400 ? 0.1 : 0);
    const own = `trials/${`${trial}`.padStart(4, "0")}`;
    makeRun(`${folder}/${own}`, { r, lr, steps, learns, seed: trial + 2 });
    return {
      trial,
      settings: {
        "lora.r": r,
        "lora.lora_alpha": alpha,
        "training.lr": lr,
        "lora.target_modules": target_modules,
      },
      seed: 0,
      objective,
      valid_loss: objective - 0.02,
      forgetting: 0.02 + 0.05 * random() + 0.04 * Math.max(0, far + 1),
      steps,
      seconds: steps * 0.05,
      budget: steps < 400 ? steps : null,
      stopped: steps < 400 ? "limit" : "steps",
      folder: own,
    };
  });
  writeFileSync(
    `${folder}/trials.jsonl`,
    lines.map((line) => `${JSON.stringify(line)}\n`).join(""),
  );
  writeFileSync(
    `${folder}/sweep.json`,
    JSON.stringify({
      format: 1,
      sweep: { search: "asha", eta: 3 },
      space: { "lora.r": [4, 8, 16, 32] },
      seed: 0,
    }),
  );
}

/** The error of a call that must fail. */
export async function refusal(call: () => Promise<unknown>): Promise<Error> {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

/** A name that tries to become markup, an attribute, a style, an expression. */
export const HOSTILE = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{x}}</style></svg>\${y}\u202e`;

/** A folder whose every text is hostile. */
export function makeHostile(folder: string): void {
  const lines = metricsOf({ steps: 40 });
  for (const line of lines) if (line.kind === "profile") line.op = `${line.op} ${HOSTILE}`;
  const json = runJsonOf({ steps: 40, model: HOSTILE }, lines);
  const hostile = {
    ...json,
    config: { ...(json.config as object), [HOSTILE]: HOSTILE, method: HOSTILE },
    command: ["lowrank", HOSTILE],
    adapter: { description: HOSTILE },
    version: HOSTILE,
    notes: [HOSTILE],
    memory: { peak_bytes: { [HOSTILE]: 5e6, base: 1e7 } },
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/metrics.jsonl`, lines.map((line) => JSON.stringify(line)).join("\n"));
  writeFileSync(`${folder}/run.json`, JSON.stringify(hostile));
}

/** A sweep whose settings' names and words are hostile. */
export function makeHostileSweep(folder: string): void {
  makeSweep(folder, { trials: 6 });
  const lines = [1, 2, 3, 4, 5].map((trial) =>
    JSON.stringify({
      trial,
      settings: { [HOSTILE]: `${trial} ${HOSTILE}`, [`lora.${HOSTILE}`]: trial },
      objective: 3 - 0.1 * trial,
      forgetting: 0.1 * trial,
      valid_loss: 2,
      stopped: HOSTILE,
    }),
  );
  writeFileSync(`${folder}/trials.jsonl`, lines.join("\n"));
  writeFileSync(`${folder}/sweep.json`, JSON.stringify({ sweep: { search: HOSTILE } }));
}
