// Embeddings and heads that one binding cannot hold, as a vocabulary of 150,000 is on lavapipe: what they
// compute is compared with a device that holds them, for the limit can be lowered.
import { readFile } from "node:fs/promises";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast, embedding, linear, sum } from "../../src/autograd/ops/index.ts";
import { type Gpu, init } from "../../src/gpu/device.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora } from "../../src/lora/lora.ts";
import { mergeFolder } from "../../src/lora/merge_folder.ts";
import { saveAdapter } from "../../src/lora/peft.ts";
import { generate } from "../../src/nn/generate.ts";
import type { LlamaConfig } from "../../src/nn/llama_config.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import {
  fromPretrained,
  modelFromConfig,
  savePretrained,
  toFloat32,
} from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import { inFolder } from "../child.ts";
import { close, theGpu, throwsLike } from "../gpu.ts";

/** Bytes that a kernel sees at once: a third of the table below in f32, two thirds in 16 bits. */
const LIMIT = 65_536;

const CONFIG: LlamaConfig = {
  model_type: "llama",
  vocab_size: 1500,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  max_position_embeddings: 16,
};

const TOKENS = [3, 511, 512, 1023, 1024, 1499, 0, 700];
const tokens = () => tensor(Int32Array.from(TOKENS), [1, 8]);
const targets = () => tensor(Int32Array.from([...TOKENS.slice(1), 1400]), [1, 8]);

const there = theGpu() !== null;
theGpu()?.dispose();

function deviceTest(name: string, body: () => Promise<void>): void {
  if (there) test(name, body);
  else test.skip(name, body);
}

/** What `body` gives on a device that holds the tables, and on one that does not. */
async function onBoth<T>(body: (gpu: Gpu) => Promise<T>): Promise<[whole: T, ranges: T]> {
  const results: T[] = [];
  for (const limit of [undefined, LIMIT]) {
    using gpu = await init(limit === undefined ? {} : { bindingLimit: limit });
    manualSeed(3);
    using _ = scope();
    results.push(await body(gpu));
    await gpu.sync();
  }
  return results as [T, T];
}

/** A model's folder with random weights. */
async function writeModel(folder: string, tied: boolean, dtype: "f32" | "f16" | "bf16") {
  using _ = await init();
  manualSeed(5);
  using model = modelFromConfig({ ...CONFIG, tie_word_embeddings: tied });
  await savePretrained(model, folder, { dtype });
}

for (const dtype of ["f32", "f16", "bf16"] as const) {
  deviceTest(`look-up and head of a table in ranges, ${dtype}: gradient of x, and bias`, () =>
    inFolder(async (folder) => {
      await writeModel(folder, true, dtype);
      const [whole, ranges] = await onBoth(async (gpu) => {
        using model = await fromPretrained(folder);
        model.requiresGrad(false);
        const weight = model.stateDict().get(model.embeddingPath)!;
        is(weight.bytes > gpu.bindingLimit, gpu.bindingLimit === LIMIT);
        const rows = embedding(weight, tokens());
        const x = tensor(await rows.data(), rows.shape);
        x.requiresGrad = true;
        const bias = tensor(Float32Array.from({ length: 1500 }, (_, i) => i / 1500));
        const y = linear(x, weight, bias);
        backward(y, {
          gradient: cast(
            tensor(
              Int32Array.from({ length: 12_000 }, (_, i) => i % 7),
              y.shape,
            ),
            "f32",
          ),
        });
        return [await rows.data(), await y.data(), await x.grad!.data()];
      });
      equal(ranges[0], whole[0]);
      close(ranges[1]!, whole[1]!, 1e-6, "y");
      close(ranges[2]!, whole[2]!, 1e-5, "dx");
    }),
  );
}

async function trained(folder: string, config: LoraConfig): Promise<[number[], number[]]> {
  using model = await fromPretrained(folder);
  const lora = addLora(model, { r: 4, lora_alpha: 8, lora_dropout: 0.1, ...config });
  using optimizer = new AdamW(lora.parameters(), { lr: 3e-2 });
  const losses: number[] = [];
  for (let step = 0; step < 6; step++) {
    using _ = scope();
    const loss = model.loss(tokens(), targets());
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  return [losses, await generate(model, TOKENS, { maxNewTokens: 4 })];
}

for (const [tied, dtype, modules] of [
  [true, "f32", ["q_proj", "v_proj"]],
  [false, "f16", ["q_proj", "v_proj"]],
  [false, "f32", ["q_proj", "lm_head", "embed_tokens"]],
] as const) {
  const head = tied ? "tied" : "a head of its own";
  deviceTest(`LoRA of ${modules} on such a base, ${dtype}, ${head}: losses and tokens`, () =>
    inFolder(async (folder) => {
      await writeModel(folder, tied, dtype);
      const [whole, ranges] = await onBoth(() => trained(folder, { target_modules: [...modules] }));
      ok(whole[0].at(-1)! < whole[0][0]! - 0.1, `${whole[0]}`);
      close(ranges[0], whole[0], 1e-5, "losses");
      equal(ranges[1], whole[1]);
    }),
  );
}

deviceTest(
  "merge and its undoing, a merged folder and saving in another type: the same bytes",
  () =>
    inFolder(async (folder) => {
      const base = `${folder}/base`;
      await writeModel(base, false, "f16");
      const config = {
        r: 2,
        target_modules: ["lm_head", "embed_tokens"],
        init_lora_weights: false,
      };
      const [whole, ranges] = await onBoth(async ({ bindingLimit }) => {
        using model = await fromPretrained(base);
        const out = `${folder}/${bindingLimit}`;
        await savePretrained(model, `${out}/wide`, { dtype: "f32" });
        const lora = addLora(model, config);
        await saveAdapter(lora, `${out}/adapter`);
        const weights = async () => {
          const own = [...lora.layers.values()].map(({ base_layer }) => base_layer.weight);
          return Promise.all(own.map((w) => w.rawBytes()));
        };
        const before = await weights();
        lora.merge();
        const merged = await weights();
        lora.unmerge();
        equal(await weights(), before);
        await mergeFolder(base, `${out}/adapter`, `${out}/merged`);
        const file = (name: string) => readFile(`${out}/${name}/model.safetensors`);
        return [...merged, await file("wide"), await file("merged")];
      });
      for (const [i, bytes] of ranges.entries()) {
        ok(Buffer.compare(bytes, whole[i]!) === 0, `${i}: ${bytes.length} bytes differ`);
      }
    }),
);

deviceTest("what such a table cannot do is refused by name", () =>
  inFolder(async (folder) => {
    await writeModel(folder, true, "f32");
    using _ = await init({ bindingLimit: LIMIT });
    using __ = scope();
    using model = await fromPretrained(folder);
    const weight = model.stateDict().get(model.embeddingPath)!;
    const frozen =
      /weight must be frozen, or at most 65536 bytes.*got 192000 bytes that want a gradient/;
    throwsLike(() => model.loss(tokens(), targets()), "LimitError", /^embedding: /, frozen);
    throwsLike(
      () => linear(embedding(tensor([[...Array(32).keys()]]), tensor(Int32Array.of(0))), weight),
      "LimitError",
      /^linear: /,
      frozen,
    );
    throwsLike(() => toFloat32(model), "LimitError", "model.embed_tokens.weight of 192000", "LoRA");
    const bound =
      /table|x must be at most 65536 bytes, which this device binds at once, got 192000/;
    throwsLike(() => noGrad(() => sum(weight)), "LimitError", bound);
  }),
);

test("the limit of bindings must be whole steps of memory", async () => {
  for (const bindingLimit of [0, -256, 100, Number.NaN]) {
    const error = await init({ bindingLimit }).then(
      () => null,
      (e) => e,
    );
    is(error?.name, "ValueError");
    ok(error.message.includes("bindingLimit must be a positive multiple of 256"));
  }
});

test.run();
