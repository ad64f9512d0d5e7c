// Surfaces with the shape of a sweep's: what a trial would come to, without training anything.
import type { Outcome, Search } from "../../../src/train/sweep/search.ts";
import { readSpace, type Settings } from "../../../src/train/sweep/space.ts";

export const space = readSpace({
  "lora.r": { log_integer: [1, 64] },
  "training.lr": { log_uniform: [1e-5, 1e-1] },
  "lora.lora_dropout": { uniform: [0, 0.5] },
  "lora.target_modules": ["all-linear", ["q_proj", "v_proj"], ["up_proj", "down_proj"]],
});

const numbersOf = (settings: Settings) => ({
  lr: Math.log10(settings["training.lr"] as number),
  r: Math.log2(settings["lora.r"] as number),
  p: settings["lora.lora_dropout"] as number,
  modules: settings["lora.target_modules"],
});

/** Lowest, 2, at r 16, rate 10^-2.3, dropout 0.1 and all linear layers. */
export function bowl(settings: Settings): number {
  const { lr, r, p, modules } = numbersOf(settings);
  const missing = modules === "all-linear" ? 0 : String(modules).includes("q_proj") ? 0.25 : 0.1;
  return 2 + 0.25 * (lr + 2.3) ** 2 + 0.05 * (r - 4) ** 2 + 0.8 * (p - 0.1) ** 2 + missing;
}

/** The best rate falls with the rank, and too large a one diverges; lowest about 1. */
export function cliff(settings: Settings): number {
  const { lr, r, p } = numbersOf(settings);
  const over = lr - (-1.5 - 0.1 * r);
  return over > 0.5 ? Number.NaN : 1 + 0.3 * over ** 2 + 0.5 / (1 + r) + 0.5 * p;
}

/** Runs a search to its end; every job in its order and what came of it. */
export function play(search: Search, surface: (s: Settings) => number, most = 1) {
  const trace: (Outcome & { settings: Settings })[] = [];
  for (;;) {
    const jobs = search.ask(most);
    if (jobs.length === 0) return trace;
    for (const { trial, steps, settings } of jobs) {
      const outcome = { trial, steps, objective: surface(settings) };
      search.tell(outcome);
      trace.push({ ...outcome, settings });
    }
  }
}

export function lowest(trace: readonly Outcome[]): number {
  return Math.min(...trace.map(({ objective }) => objective).filter((x) => !Number.isNaN(x)));
}
