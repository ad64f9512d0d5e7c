// What is chosen for data and models of all sizes, without a device.
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { capacityOf } from "../../../src/train/suggest/capacity.ts";
import {
  adapterChoices,
  type Choice,
  lengthChoices,
  lookChoices,
  rateChoice,
  stepChoices,
} from "../../../src/train/suggest/choices.ts";
import { Chosen } from "../../../src/train/suggest/chosen.ts";
import { fitted } from "../../../src/train/suggest/fitting.ts";
import type { TrainedSizes } from "../../../src/train/suggest/memory.ts";

const values = (choices: readonly Choice[]) =>
  Object.fromEntries(choices.map(({ key, value }) => [key, value]));

test("an adapter: alpha is twice r, all linear layers; none for full fine-tuning", () => {
  const lora = values(adapterChoices({ method: "lora", lora: { r: 4 } }));
  equal(lora, {
    "lora.r": 4,
    "lora.lora_alpha": 8,
    "lora.target_modules": "all-linear",
    "lora.lora_dropout": 0,
  });
  equal(adapterChoices({ method: "full", lora: {} }), []);
});

test("the length: texts by what there is of them, samples by the longest, never beyond the context", () => {
  const of = (tokens: number, longest: number, areTexts: boolean, context: number) =>
    values(
      lengthChoices(
        { samples: 1, tokens, learnt: tokens, longest, bytesPerToken: 1 },
        areTexts,
        context,
      ),
    );
  equal(of(1e6, 1e6, true, 2048), { "data.length": 512 });
  equal(of(1e6, 1e6, true, 100), { "data.length": 100 });
  equal(of(5000, 5000, true, 2048), { "data.length": 128 });
  equal(of(10, 10, true, 2048), { "data.length": 32 });
  equal(of(1e6, 700, false, 2048), { "data.length": 1024 });
  equal(of(1e6, 1025, false, 2048), { "data.length": 1024 }, "the last token is only learnt");
  equal(of(1e6, 1026, false, 2048), { "data.length": 2048 });
  equal(of(1e6, 700, false, 800), { "data.length": 800 });
  equal(of(100, 5, false, 2048), { "data.length": 32 });
  equal(of(1e6, 900, false, 800), { "data.length": 800, "data.long": "truncate" });
});

test("steps: three passes, but about a hundred steps where data is small and something is held out", () => {
  const of = (rows: number, isHeldOut = true) => values(stepChoices(rows, isHeldOut));
  equal(of(10_000), { "training.batch": 8, "training.epochs": 3 });
  equal(of(400), { "training.batch": 8, "training.epochs": 3 });
  equal(of(80), { "training.batch": 8, "training.epochs": 10 });
  equal(of(30), { "training.batch": 2, "training.epochs": 7 });
  equal(of(1), { "training.batch": 1, "training.epochs": 20 });
  equal(of(30, false), { "training.batch": 2, "training.epochs": 3 });
});

test("the rate: ten times that of full fine-tuning for large models, found for small ones", () => {
  const [lora, full] = [rateChoice("lora", 3e9), rateChoice("full", 3e9)];
  is(Number(lora.value) / Number(full.value), 10);
  match(lora.why, "ten times");
  is(rateChoice("lora", 8e5).value, "auto");
  is(rateChoice("full", 8e5).value, "auto");
});

test("looks: a tenth of the steps, a twentieth where the text can be learnt by heart", () => {
  is(values(lookChoices(1000, false))["training.eval_every"], 100);
  is(values(lookChoices(1000, true))["training.eval_every"], 50);
  is(values(lookChoices(3, true))["training.eval_every"], 1);
});

test("room: two bits a parameter against a bit a byte", () => {
  equal(capacityOf(1000, 400), { data: 1000, adapter: 800, verdict: "short", factor: 1.25 });
  is(capacityOf(1000, 500).verdict, "fits");
  is(capacityOf(1000, 1999).verdict, "fits");
  equal(capacityOf(1000, 2000), { data: 1000, adapter: 4000, verdict: "ample", factor: 1 });
});

test("what was asked stays; a key that there is gets a new value", () => {
  const chosen = new Chosen({ model: "m", training: { batch: 2 } });
  chosen.add({ key: "training.batch", value: 8, why: "a" }, { key: "training.lr", value: 1, why: "b" }); // biome-ignore format: one line
  chosen.add({ key: "training.lr", value: 2, why: "c" });
  equal(chosen.list, [{ key: "training.lr", value: 2, why: "c" }]);
  equal(chosen.settings, { model: "m", training: { batch: 2, lr: 2 } });
  ok(chosen.isGiven("training.batch") && !chosen.isGiven("training.lr.x"));
});

test("a memory: fewer rows at once, then checkpointing, then a heavy base in 4 bits, then shorter rows, each only if it may change", async () => {
  let base = 60_000;
  const sizesOf = async (dtype: string): Promise<TrainedSizes> => ({
    ...{ base: 0, total: 0, trainable: 0, layers: 2, width: 2, kept: 24, passing: 1 },
    held: { base: dtype === "nf4" ? 1000 : base, adapters: 0, gradients: 0, optimiser: 0 },
  });
  const start = {
    ...{ batch: 8, accumulate: 1, length: 512, base_dtype: "auto" as const },
    gradient_checkpointing: false,
  };
  const all = {
    ...{ batch: true, accumulate: true, length: true, base_dtype: true },
    gradient_checkpointing: false,
  };
  const of = async (limit: number, may = all) => {
    const { sizes: _, memory, ...shape } = await fitted(start, limit, may, sizesOf);
    ok(!shape.fits || memory.total <= limit);
    return shape;
  };
  equal(await of(Infinity), { ...start, fits: true });
  equal(await of(60_000 + 102_400), { ...start, batch: 2, accumulate: 4, fits: true }); // 51,200 bytes a row
  const one = { ...start, batch: 1, accumulate: 8 };
  equal(await of(52_200), { ...one, base_dtype: "nf4", fits: true });
  equal(await of(1000 + 12_800), { ...one, base_dtype: "nf4", length: 128, fits: true });
  equal(await of(2000), { ...one, base_dtype: "nf4", length: 64, fits: false });
  const none = { ...all, batch: false, accumulate: false, length: false, base_dtype: false };
  equal(await of(2000, none), { ...start, fits: false });
  const again = { ...all, gradient_checkpointing: true };
  equal(await of(60_000 + 38_912, again), { ...one, gradient_checkpointing: true, fits: true }); // 3·2 + 24/2 + 1 numbers
  base = 8000;
  equal(await of(8000 + 12_800), { ...one, length: 128, fits: true }, "it would save little");
});

test.run();
