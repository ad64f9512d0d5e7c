// Self-replay: what the base alone writes, the same for a seed, kept in a file.
import { readFileSync, writeFileSync } from "node:fs";
import { equal, is, not, ok } from "uvu/assert";
import { addLora } from "../../../src/lora/lora.ts";
import { generate } from "../../../src/nn/generate.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { manualSeed, philox4x32 } from "../../../src/tensor/philox.ts";
import {
  type ExampleSet,
  PackedRows,
  type SelfReplayOptions,
  selfReplay,
} from "../../../src/train/data/index.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { gpuTest, runTests, theGpu } from "../../gpu.ts";
import { rejects } from "../recipe/tiny_recipe.ts";

const load = () => fromPretrained(fixtureFolder("llama-tiny"));
const idsOf = (set: ExampleSet) => Array.from({ length: set.count }, (_, i) => [...set.at(i).ids]);
const options: SelfReplayOptions = { texts: 6, length: 10, seed: 3, batch: 4 };

gpuTest("texts begin and end as the model's do, are learnt whole, and fit rows", async () => {
  using model = await load();
  model.generationConfig = { bos_token_id: 7, eos_token_id: [11, 12] };
  const set = await selfReplay(model, { ...options, texts: 40 });
  is(set.count, 40);
  for (let i = 0; i < set.count; i++) {
    const { ids, labels } = set.at(i);
    equal(labels, ids);
    is(ids[0], 7);
    const end = ids.findIndex((id) => id === 11 || id === 12);
    is(ids.length, end >= 0 ? end + 1 : 11, "to the first end, or to a token more than a row");
  }
  ok(
    idsOf(set).some(({ length }) => length < 11),
    "one has ended by itself",
  );
  is(new PackedRows(set, 10).length, 10);
  const started = await selfReplay(model, { ...options, start: [5, 6], sampling: { topK: 1 } });
  const [own] = philox4x32([0, 0, 0, 0], [3, 0x73656c66]);
  const alone = await generate(model, [5, 6], { maxNewTokens: 9, seed: own, stop: [] });
  const text = idsOf(started)[0]!;
  equal(text, [5, 6, ...alone].slice(0, text.length), "with one token to draw from, the likeliest");
});

gpuTest(
  "seed and sampling decide; without a token that begins texts, beginnings differ",
  async () => {
    using model = await load();
    model.generationConfig = {};
    Object.assign(model.config, { bos_token_id: null });
    const texts = idsOf(await selfReplay(model, options));
    equal(idsOf(await selfReplay(model, options)), texts);
    for (const change of [{ seed: 4 }, { sampling: { temperature: 0.1 } }]) {
      not.equal(idsOf(await selfReplay(model, { ...options, ...change })), texts);
    }
    ok(new Set(texts.map(([first]) => first)).size > 3);
  },
);

gpuTest("the base writes, whatever its adapters say, and they are on again", async () => {
  using model = await load();
  const texts = idsOf(await selfReplay(model, options));
  manualSeed(1);
  const lora = addLora(model, { r: 4, init_lora_weights: false, target_modules: "all-linear" });
  not.equal(idsOf(await selfReplay(model, options)), texts, "with them it writes otherwise");
  model.train();
  const { tensorsLive } = theGpu().stats();
  equal(idsOf(await selfReplay(model, { ...options, lora })), texts);
  is(theGpu().stats().tensorsLive, tensorsLive, "and nothing is left on the GPU");
  ok(lora.enabled && model.training);
  const onToken = () => {
    throw new Error("enough");
  };
  await rejects(selfReplay(model, { ...options, lora, onToken }), "Error", "enough");
  ok(lora.enabled && model.training);
});

gpuTest("a file keeps the texts of one model and one set of options", async () => {
  await inFolder(async (folder) => {
    using model = await load();
    const file = `${folder}/deep/texts.json`;
    let tokens = 0;
    const onToken = (done: number, most: number) => {
      ok(done <= most);
      tokens += 1;
    };
    const kept = { ...options, file, onToken };
    const texts = idsOf(await selfReplay(model, kept));
    ok(tokens > 0);
    tokens = 0;
    equal(idsOf(await selfReplay(model, kept)), texts);
    const lora = addLora(model, { r: 4 });
    equal(idsOf(await selfReplay(model, { ...kept, lora })), texts);
    is(tokens, 0, "read, not written again");
    lora.remove();
    not.equal(idsOf(await selfReplay(model, { ...kept, seed: 4 })), texts);
    ok(tokens > 0);
    tokens = 0;
    using other = await fromPretrained(fixtureFolder("qwen2-tiny"));
    await selfReplay(other, { ...kept, seed: 4 });
    ok(tokens > 0, "another model writes its own");
    const json = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...json, texts: [[1, 1e9]] }));
    const again = selfReplay(other, { ...kept, seed: 4 });
    await rejects(again, "FormatError", "texts.json must be texts of ids below", "Remove it");
    writeFileSync(file, "{");
    await rejects(selfReplay(other, kept), "FormatError", "is not JSON");
  });
});

gpuTest("what cannot be is refused", async () => {
  using model = await load();
  const refused = (change: Partial<SelfReplayOptions>, name: string, part: string) =>
    rejects(selfReplay(model, { ...options, ...change }), name, part);
  await refused({ texts: 0 }, "ValueError", "texts must be a positive integer, got 0");
  await refused({ length: 1e6 }, "ShapeError", "length must be of at most");
  await refused({ start: [] }, "ValueError", "start must be 1 to 10 ids below 67, got []");
  await refused({ start: [67] }, "ValueError", "start must be 1 to 10 ids below 67, got [67]");
});

runTests();
