// Combinations of adapters: values against PEFT's, and what must hold for each kind.
import { readFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { matmul } from "../../src/autograd/ops/index.ts";
import { combined } from "../../src/lora/combine.ts";
import type { Lora } from "../../src/lora/lora.ts";
import { loadAdapter, peftStateDict } from "../../src/lora/peft.ts";
import { addWeightedAdapter, type WeightedOptions } from "../../src/lora/weighted.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { expectedOf, fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

const ids = () =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * 13 + 5) % 67),
    [2, 11],
  );
const logits = async (model: CausalLM) =>
  (await noGrad(() => model.call(ids())).data()) as Float32Array;

async function three(): Promise<{ model: CausalLM; lora: Lora }> {
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  const lora = await loadAdapter(model.eval(), fixtureFolder("peft-weighted/a"), "a");
  for (const name of ["b", "c"])
    await loadAdapter(lora, fixtureFolder(`peft-weighted/${name}`), name);
  return { model, lora };
}

/** B·A of every layer, by the names of A. */
async function updates(lora: Lora, name: string): Promise<Map<string, Float32Array>> {
  const state = peftStateDict(lora, name);
  const found = new Map<string, Float32Array>();
  for (const [key, A] of Object.entries(state)) {
    if (!/_A(\.weight)?$/.test(key)) continue;
    const B = state[key.replace("_A", "_B")]!;
    found.set(key, (await noGrad(() => matmul(B, A)).data()) as Float32Array);
  }
  return found;
}

interface Case extends WeightedOptions {
  adapters: string[];
  weights: number[];
  r: number;
}

gpuTest("M12: values of every combination are PEFT's, with scales that are not 1", async () => {
  const { model, lora } = await three();
  const expected = await expectedOf("peft-weighted");
  const cases: Case[] = JSON.parse(readFileSync(fixtureFolder("peft-weighted/cases.json"), "utf8"));
  for (const [i, { adapters, weights, r, ...options }] of cases.entries()) {
    const what = JSON.stringify(cases[i]);
    await addWeightedAdapter(lora, adapters, weights, `m${i}`, options);
    const { r: own, lora_alpha } = lora.config(`m${i}`);
    equal([own, lora_alpha], [r, r], what);
    const found = await updates(lora, `m${i}`);
    for (const key of expected.keys.filter((k) => k.startsWith(`${i}.`))) {
      close(
        found.get(key.slice(`${i}.`.length))!,
        await expected.get(key).data(),
        2e-6,
        `${what} ${key}`,
      );
    }
  }
  expected.free();
  model.dispose();
});

gpuTest(
  "M9 M12: cat is the sum of active adapters, svd of full rank too, linear is not",
  async () => {
    const { model, lora } = await three();
    lora.setAdapter(["a", "b", "c"]);
    const sum = await logits(model);
    await addWeightedAdapter(lora, ["a", "b", "c"], [1, 1, 1], "cat", { combination_type: "cat" });
    await addWeightedAdapter(lora, ["a", "b", "c"], [1, 1, 1], "svd", { svd_rank: 7 });
    await addWeightedAdapter(lora, ["a", "b"], [1, 1], "linear", { combination_type: "linear" });
    for (const name of ["cat", "svd"]) {
      lora.setAdapter(name);
      close(await logits(model), sum, 1e-5, name);
    }
    lora.setAdapter(["a", "b"]);
    const two = await logits(model);
    lora.setAdapter("linear");
    const linear = await logits(model);
    ok(
      linear.some((v, i) => Math.abs(v - two[i]!) > 0.1),
      "cross terms",
    );
    lora.setAdapter("a");
    const one = await logits(model);
    await addWeightedAdapter(lora, ["a"], [-1], "minus", { combination_type: "linear" });
    await addWeightedAdapter(lora, ["a", "a"], [1, -1], "zero", { combination_type: "cat" });
    await addWeightedAdapter(lora, ["a", "minus"], [1, 1], "none", { combination_type: "cat" });
    lora.disable();
    const base = await logits(model);
    lora.enable();
    for (const name of ["zero", "none"]) {
      lora.setAdapter(name);
      close(await logits(model), base, 1e-5, `${name}: a − a`);
    }
    lora.setAdapter(["a", "minus"]);
    close(await logits(model), base, 1e-5, "a and its negative");
    ok(one.some((v, i) => v !== base[i]));
    model.dispose();
  },
);

/** How often each value, times 3 and rounded, comes where 2 and −1 are combined, and how often it should. */
const DARE = [
  // 2·(1/0.3), −1/0.3, their sum, or nothing: independently drawn.
  ["dare_linear", [[0, 0.49], [20, 0.21], [-10, 0.21], [10, 0.09]]], // biome-ignore format: one line
  // Signs are elected before the weights count, so where both are drawn it is the mean of both.
  ["dare_ties", [[0, 0.49], [20, 0.21], [-10, 0.21], [5, 0.09]]], // biome-ignore format: one line
] as const;

for (const [type, shares] of DARE) {
  gpuTest(`M12: ${type} keeps a share of the values and their mean`, () => {
    manualSeed(3);
    const ones = new Float64Array(20_000).fill(1);
    const rule = { type, density: 0.3, majority_sign_method: "total" } as const;
    const out = combined([ones, ones], [2, -1], rule);
    const counts = new Map<number, number>();
    for (const v of out) counts.set(Math.round(v * 3), (counts.get(Math.round(v * 3)) ?? 0) + 1);
    for (const [value, share] of shares) {
      const n = counts.get(value) ?? 0;
      const deviation = Math.sqrt((share * (1 - share)) / out.length);
      ok(Math.abs(n / out.length - share) < 4 * deviation, `${value}: ${n}`);
      counts.delete(value);
    }
    equal([...counts], [], "no other values");
    manualSeed(3);
    equal(combined([ones, ones], [2, -1], rule), out, "K7: the same seed draws the same");
  });
}

gpuTest(
  "M12: dare of whole updates that drops nothing is ties and svd, whose values are PEFT's",
  async () => {
    const { model, lora } = await three();
    const combine = async (name: string, combination_type: WeightedOptions["combination_type"]) => {
      const options = { combination_type, density: 1, svd_rank: 4 } as WeightedOptions;
      await addWeightedAdapter(lora, ["a", "b", "c"], [0.7, -0.4, 1.5], name, options);
      return updates(lora, name);
    };
    for (const [dare, other] of [
      ["dare_ties_svd", "ties_svd"],
      ["dare_linear_svd", "svd"],
    ] as const) {
      // biome-ignore format: one line
      const [found, expected] = [await combine(dare, dare), await combine(other, other)];
      is(found.size, expected.size);
      for (const [key, values] of expected) close(found.get(key)!, values, 2e-6, `${dare} ${key}`);
    }
    model.dispose();
  },
);

gpuTest("what cannot be combined is refused, and nothing is added", async () => {
  const { model, lora } = await three();
  const refused = async (adapters: string[], weights: number[], options: object, part: string) => {
    let message = "";
    await addWeightedAdapter(lora, adapters, weights, "new", options as WeightedOptions).catch(
      (error: Error) => {
        message = `${error.name}: ${error.message}`;
      },
    );
    ok(message.startsWith("ValueError: ") && message.includes(part), `"${message}" lacks ${part}`);
    equal(lora.adapters, ["a", "b", "c"]);
  };
  await refused(["a", "x"], [1, 1], {}, "the adapter must be one of a, b, c, got x");
  await refused([], [], {}, "adapters must be at least one name");
  await refused(["a", "b"], [1], {}, "weights must be 2 finite numbers, got [1]");
  await refused(["a", "b"], [1, Number.NaN], {}, "weights must be 2 finite numbers");
  await refused(
    ["a", "c"],
    [1, 1],
    { combination_type: "linear" },
    "of one rank for linear, got ranks 2, 3",
  );
  await refused(["a", "b"], [1, 1], { combination_type: "ties" }, "density must be given");
  await refused(
    ["a", "b"],
    [1, 1],
    { combination_type: "dare_linear", density: 0 },
    "above 0 and at most 1",
  );
  await refused(
    ["a", "b"],
    [1, 1],
    { combination_type: "sum" },
    "combination_type must be one of linear, cat",
  );
  await refused(["a", "b"], [1, 1], { svd_rank: 0 }, "svd_rank must be a positive integer, got 0");
  let message = "";
  await addWeightedAdapter(lora, ["a"], [1], "b").catch((error: Error) => {
    message = error.message;
  });
  is(message, "addAdapter: name must be a new one, got b, which is taken.");
  model.dispose();
});

runTests();
