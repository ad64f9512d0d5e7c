// Configurations of sweeps: what is refused, and by which name.
import { test } from "uvu";
import { equal, is } from "uvu/assert";
import { ConfigError } from "../../../src/train/recipe/index.ts";
import { configOfFacts, everyValue, planSweep } from "../../../src/train/sweep/sweep_config.ts";
import { throwsLike } from "../../gpu.ts";

const config = { model: "m", output: "o", data: { train: "t.txt" } };
const space = { r: [4, 8], "training.lr": { log_uniform: [1e-4, 1e-2], points: 3 } };

test("settings go by their paths, or by a last word that only one path has", () => {
  const all = { ...space, target_modules: ["all-linear", ["q_proj"]], seed: [0, 1], batch: [2] };
  const plan = planSweep({ ...config, space: all });
  equal(
    [...plan.space.keys()],
    ["lora.r", "training.lr", "lora.target_modules", "seed", "training.batch"],
  );
  const { search, seed, forgetting_weight, side_by_side } = plan.sweep;
  equal([search, seed, forgetting_weight, side_by_side], ["tpe", 0, 0, 1]);
  const rates = [...everyValue(plan.space)].map((settings) => settings["training.lr"]);
  equal(new Set(rates), new Set([1e-4, 1e-3, 1e-2]));
});

test("what is wrong, with its key, where it was written, and the nearest name", () => {
  const general = { ...config, data: { train: "t.txt", general: "g.txt" } };
  const steps = { ...config, training: { steps: 9 } };
  const cases: [object, string | RegExp][] = [
    [config, "config: space (s.yaml) must be settings with their values, got nothing."],
    [{ ...config, space: {} }, /space \(s\.yaml\) must be settings by their paths, got \{\}/],
    [{ ...config, spac: space }, /config: spac \(s\.yaml\) must be one of .*Did you mean space\?/],
    [{ ...config, space, sweep: { trails: 3 } }, /sweep\.trails .*Did you mean trials\?/],
    [{ ...config, space, sweep: { search: "tpa" } }, /sweep\.search .* one of one-at-a-time, grid/],
    [{ ...config, space, sweep: { trials: 0 } }, "sweep.trials (--trials) must be a positive"],
    [{ ...config, space, training: { ler: 1 } }, /training\.ler .*Did you mean lr\?/],
    [{ ...config, space: { alpha: [1] } }, "space.alpha (s.yaml) must be a setting of a run, got \"alpha\". Did you mean"],
    [{ ...config, space: { share: [0.1], "lora.q": [1] } }, /space\.lora\.q .*Did you mean lora\.r\?/],
    [{ ...config, space: { "data.valid": [0.1] } }, /space\.data\.valid .*compared on the same held-out/],
    [{ ...config, space: { lr: [1e-3], "training.lr": [1e-3] } }, /each setting once/],
    [{ ...config, space: { lr: [-1] } }, "config: training.lr (space) must be a number above 0, got -1."],
    [{ ...config, space: { r: { log_integer: [1, 2.5] } } }, /space\.lora\.r \(--space r\) must be a range between integers/],
    [{ ...config, space: { r: { log: [1, 2] } } }, /space\.lora\.r .*Did you mean/],
    [{ ...config, space: { r: [4, 4] } }, /different values, got \[4,4\]/],
    [{ ...config, space, sweep: { eta: 3 } }, "sweep.eta (s.yaml) must be absent unless sweep.search is asha"],
    [{ ...config, space, sweep: { forgetting_weight: 1 } }, /0 where data\.general is absent, got 1/],
    [{ ...general, space: { steps: [3] }, sweep: { search: "asha" } }, /space\.training\.steps .*absent with asha/],
    [{ ...general, space: { batch: [3] }, sweep: { search: "asha" } }, /space\.training\.batch .*absent with asha/],
    [{ ...general, training: { checkpoint_every: 0 }, space, sweep: { search: "asha" } }, /checkpoint_every .* above 0 with asha/],
  ]; // biome-ignore format: a table
  const flags = { "sweep.trials": "--trials", "space.r": "--space r", "space.lora.r": "--space r" };
  for (const [raw, part] of cases) {
    throwsLike(() => planSweep(raw, { file: "s.yaml", flags }), "ConfigError", part);
  }
  is(planSweep({ ...steps, space: { batch: [3] }, sweep: { search: "asha" } }).space.size, 1);
  is(new ConfigError("x") instanceof Error, true);
});

test("sweep.json brings the configuration back", () => {
  const facts = {
    format: 1,
    space: { "lora.r": [4] },
    sweep: { search: "asha", seed: 2, eta: 4, forgetting_weight: 0, round: 2 },
    seed: 1,
    config: { model: "m", seed: 1 },
    trials: 9,
  };
  equal(configOfFacts("out/x", facts), {
    model: "m",
    seed: 1,
    output: "out/x",
    space: facts.space,
    sweep: { search: "asha", seed: 2, eta: 4, forgetting_weight: 0, trials: 9 },
  });
});

test.run();
