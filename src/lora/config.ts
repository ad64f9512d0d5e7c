// LoraConfig: what PEFT's `LoraConfig` says, by its names, checked before anything is built.
import { ValueError } from "../gpu/errors.ts";
import { Conv1D, Linear } from "../nn/layers.ts";
import type { AnyModule } from "../nn/module.ts";

export interface LoraConfig {
  /** Rank of the update: A is [r, in], B is [out, r]. Default 8. */
  r?: number;
  /** The update counts lora_alpha/r times. Default 8. */
  lora_alpha?: number;
  /** Probability with which elements of the adapter's input are dropped in training. Default 0. */
  lora_dropout?: number;
  /**
   * Which linear layers get an adapter: names that end a module's path (`["q_proj", "v_proj"]`), a
   * regular expression for whole paths (a string or a RegExp), or `"all-linear"`, which means all
   * but the output head. Default: `"all-linear"`.
   */
  target_modules?: readonly string[] | string | RegExp;
  /** Scale by lora_alpha/√r instead (Kalajdzievski 2023, arXiv 2312.03732). Default false. */
  use_rslora?: boolean;
}

export type CompleteLoraConfig = Required<LoraConfig>;

const KNOWN = ["r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora"];

function need(arg: string, good: boolean, expected: string, got: unknown): void {
  if (!good) throw new ValueError({ op: "lora", arg, expected, got: `${got}` });
}

/** Fills in the defaults. Throws ValueError for unknown fields and numbers out of range. */
export function completeConfig(config: LoraConfig): CompleteLoraConfig {
  for (const key of Object.keys(config)) {
    need("config", KNOWN.includes(key), `made of ${KNOWN.join(", ")}`, key);
  }
  const full: CompleteLoraConfig = {
    r: 8,
    lora_alpha: 8,
    lora_dropout: 0,
    target_modules: "all-linear",
    use_rslora: false,
    ...config,
  };
  const { r, lora_alpha, lora_dropout } = full;
  need("r", Number.isSafeInteger(r) && r > 0, "a positive integer", r);
  need("lora_alpha", Number.isFinite(lora_alpha), "a finite number", lora_alpha);
  need("lora_dropout", lora_dropout >= 0 && lora_dropout < 1, "in [0, 1)", lora_dropout);
  return full;
}

/** s of y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ. */
export function scaleOf({ r, lora_alpha, use_rslora }: CompleteLoraConfig): number {
  return lora_alpha / (use_rslora ? Math.sqrt(r) : r);
}

/** Whether a module's dotted path is meant, by PEFT's rules. */
function matcher(targets: CompleteLoraConfig["target_modules"]): (path: string) => boolean {
  if (Array.isArray(targets)) {
    return (path) => targets.some((t) => path === t || path.endsWith(`.${t}`));
  }
  if (typeof targets === "string" && targets.toLowerCase() === "all-linear") {
    return (path) => path !== "lm_head" && !path.endsWith(".lm_head");
  }
  const { source, flags } = pattern(targets);
  const whole = new RegExp(`^(?:${source})$`, flags.replace("g", ""));
  return (path) => whole.test(path);
}

function pattern(targets: unknown): RegExp {
  if (typeof targets === "string" || targets instanceof RegExp) {
    try {
      return new RegExp(targets);
    } catch {
      // Not a regular expression: refused below.
    }
  }
  const expected = `a list of names, a regular expression or "all-linear"`;
  throw new ValueError({ op: "lora", arg: "target_modules", expected, got: `${targets}` });
}

/**
 * The linear layers that the config means, by path.
 * @throws ValueError where there is none (the message lists the candidates), or r is larger than one
 */
export function targetsOf(
  model: AnyModule,
  config: CompleteLoraConfig,
): Map<string, Linear | Conv1D> {
  const meant = matcher(config.target_modules);
  const found = new Map<string, Linear | Conv1D>();
  const candidates: string[] = [];
  for (const [path, module] of model.namedModules()) {
    // The model itself cannot be replaced, only what is in it.
    if (path === "" || !(module instanceof Linear || module instanceof Conv1D)) continue;
    candidates.push(path);
    if (meant(path)) found.set(path, module);
  }
  const names = [...new Set(candidates.map((path) => path.split(".").pop()))].join(", ");
  const { target_modules } = config;
  const shown = target_modules instanceof RegExp ? target_modules : JSON.stringify(target_modules);
  const expected = `a match for at least one linear layer (${names || "the model has none"})`;
  need("target_modules", found.size > 0, expected, shown);
  for (const [path, { inFeatures, outFeatures }] of found) {
    const most = Math.min(inFeatures, outFeatures);
    const size = `[${outFeatures}, ${inFeatures}]`;
    need("r", config.r <= most, `at most ${most}, the smaller side of ${path} ${size}`, config.r);
  }
  return found;
}
