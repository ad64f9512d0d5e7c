// Runs side by side: each is to the bit what it is alone, in its files too, however they end and are gone on with.
import { readFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import {
  Base,
  type FullConfig,
  type MetricsEvent,
  type RunHooks,
  type RunSummary,
  readMetrics,
  readRun,
  resolveConfig,
  trainRun,
} from "../../../src/train/recipe/index.ts";
import { sideBySideKey, trainSideBySide } from "../../../src/train/recipe/side_by_side.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests } from "../../gpu.ts";
import { type Change, tinyConfig, writeTinyData } from "./tiny_recipe.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

/** Runs that differ in everything that an adapter may. */
const DIFFERENT: Readonly<Record<string, Change>> = {
  plain: { lora: { r: 4 } },
  dropping: { lora: { r: 8, lora_alpha: 4, lora_dropout: 0.3 }, training: { lr: 3e-2 } },
  few: { lora: { r: 2, lora_dropout: 0.1, target_modules: ["q_proj", "down_proj"] }, seed: 7 },
  plus: { method: "lora+", training: { schedule: "linear", clip: 0.1, weight_decay: 0.1 } },
  stabilised: { method: "rslora", lora: { r: 16, lora_dropout: 0.1 } },
  // No look is better by so much: it ends before the others.
  impatient: { training: { eval_every: 1, patience: 2, min_delta: 9 } },
};

const SHARED = { steps: 7, accumulate: 2, eval_every: 3, checkpoint_every: 2 } as const;

const configOf = (folder: string, output: string, change: Change): FullConfig =>
  resolveConfig(
    tinyConfig(folder, {
      ...change,
      output: `${folder}/${output}`,
      data: { general: `${folder}/general.txt`, ...change.data },
      training: { ...SHARED, ...change.training },
      resume: "if-present",
    }),
  );

const configsIn = (folder: string, place: string): FullConfig[] =>
  Object.entries(DIFFERENT).map(([name, change]) => configOf(folder, `${place}/${name}`, change));

const adapterOf = (run: string) => readFileSync(`${run}/adapter/adapter_model.safetensors`);

const timeless = ({ step_ms: _, tokens_per_second: __, smoothed_loss: ___, ...event }: MetricsEvent) =>
  event; // biome-ignore format: one line

/** What must be the same. */
function kept({ config, stopped, steps, skipped, parameters, valid, general, notes }: RunSummary) {
  const { output: _, ...rest } = config;
  const own = notes.filter((note) => !note.startsWith("trained beside"));
  return { config: rest, stopped, steps, skipped, parameters, valid, general, notes: own };
} // biome-ignore format: one line

/** @param kinds  events that are compared: each end of a run that was broken off is a look of its own */
async function alike(
  one: string,
  other: string,
  kinds = ["step", "valid", "general"],
): Promise<void> {
  equal(kept((await readRun(one))!), kept((await readRun(other))!), one);
  const eventsOf = (run: string) =>
    readMetrics(`${run}/metrics.jsonl`).filter(({ kind }) => kinds.includes(kind));
  const [a, b] = [one, other].map((run) => eventsOf(run).map(timeless));
  equal(a, b, one);
  equal(adapterOf(one), adapterOf(other), one);
}

async function sideBySide(configs: readonly FullConfig[], hooks: RunHooks = {}) {
  using base = await Base.open(configs[0]!);
  return await trainSideBySide(configs, { ...hooks, base });
}

gpuTest(
  "adapters of other ranks, targets, rates and seeds: losses, looks, weights and files as alone; the base is there once",
  inTiny(async (folder) => {
    const [together, alone] = ["together", "alone"].map((place) => configsIn(folder, place));
    const runs = await sideBySide(together!);
    const other: RunSummary[] = [];
    for (const config of alone!) other.push(await trainRun(config));
    for (const [i, run] of runs!.entries()) {
      if (run instanceof Error) throw run;
      await alike(run.folder, alone![i]!.output);
      is(run.memory!.peak_bytes.base, other[i]!.memory!.peak_bytes.base);
      is(
        run.notes.at(-1),
        "trained beside 5 others: GPU memory is that of all, the time of a step its part",
      );
    }
    const ends = runs!.map((run) => (run as RunSummary).stopped);
    equal(ends, ["steps", "steps", "steps", "steps", "steps", "patience"]);
  }),
);

gpuTest(
  "layers that no adapter changes take all runs at once, with the same bits",
  inTiny(async (folder) => {
    const change = (r: number): Change => ({ lora: { r, target_modules: ["v_proj"] } });
    const at = (place: string) =>
      [2, 4, 8].map((r) => configOf(folder, `${place}/${r}`, change(r)));
    await sideBySide(at("together"));
    for (const config of at("alone")) {
      await trainRun(config);
      await alike(config.output, config.output.replace("/alone/", "/together/"));
    }
  }),
);

gpuTest(
  "broken off beside others, gone on with alone and beside others: as without a break",
  inTiny(async (folder) => {
    const names = ["dropping", "few", "impatient"];
    const pick = (configs: FullConfig[]) =>
      configs.filter(({ output }) => names.some((name) => output.endsWith(name)));
    const [together, alone] = ["together", "alone"].map((place) => pick(configsIn(folder, place)));
    for (const config of alone!) await trainRun(config);
    const controller = new AbortController();
    const hooks: RunHooks = {
      signal: controller.signal,
      onStep: ({ step }) => step === 2 && controller.abort(),
    };
    const cut = (await sideBySide(together!, hooks)) as RunSummary[];
    ok(cut.every(({ stopped, steps }) => stopped === "aborted" && steps < 7));
    await sideBySide(together!, { limits: { until: 4 } });
    await trainRun(together![0]!); // alone from here on
    await sideBySide(together!.slice(1));
    for (const [i, { output }] of together!.entries()) {
      await alike(output, alone![i]!.output, ["step"]);
    }
  }),
);

gpuTest(
  "packed texts, and a run whose checkpoint is another's: it alone fails",
  inTiny(async (folder) => {
    const change = (lr: number): Change => ({ training: { lr, accumulate: 1 } });
    const at = (name: string, lr: number) => configOf(folder, name, change(lr));
    await trainRun(at("b", 1e-3));
    const [a, b, c] = (await sideBySide([at("a", 1e-2), at("b", 5e-3), at("c", 5e-3)]))!;
    ok(b instanceof Error && b.message.includes("must be of a run with"), `${b}`);
    await trainRun(at("alone", 1e-2));
    await alike((a as RunSummary).folder, `${folder}/alone`);
    is((c as RunSummary).steps, 7);
  }),
);

gpuTest(
  "what cannot go together does not",
  inTiny(async (folder) => {
    const keyOf = (change: Change) => sideBySideKey(configOf(folder, "x", change));
    for (const change of [
      { method: "full", lora: {} },
      { method: "dora" },
      { method: "pissa" },
      { method: "lora-fa" },
      { lora: { bias: "all" } },
      { training: { gradient_checkpointing: true } },
      { training: { lr: "auto" } },
      { lora: { modules_to_save: ["lm_head"] } },
    ] as Change[]) {
      is(keyOf(change), null, JSON.stringify(change));
    }
    const plain = keyOf(DIFFERENT.plain!);
    for (const change of Object.values(DIFFERENT)) is(keyOf(change), plain);
    for (const change of [
      { training: { batch: 4 } },
      { training: { accumulate: 1 } },
      { data: { length: 8 } },
      { base_dtype: "f16" },
    ] as Change[]) {
      ok(keyOf(change) !== plain, JSON.stringify(change));
    }
    // Too few tokens for them to be computed as they are alone.
    const short = ["a", "b"].map((name) => configOf(folder, name, { training: { batch: 1 } }));
    is(await sideBySide(short), null);
    is(await readRun(`${folder}/a`), null);
  }),
);

runTests();
