// Generation: processors against Transformers', batches against single prompts, stopping, seeds, streams.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { test } from "uvu";
import { equal, is, not, ok } from "uvu/assert";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import {
  generate,
  generateBatch,
  generateBatchStream,
  generateStream,
} from "../../src/nn/generate.ts";
import { generationOptions } from "../../src/nn/generation_config.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { chanceOf, draw, likeliest, processLogits } from "../../src/nn/sampling.ts";
import { readSafetensors } from "../../src/tensor/safetensors.ts";
import { expectedOf, fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

const FAMILIES = [
  "mistral-tiny",
  "qwen2-tiny",
  "qwen3-tiny",
  "smollm3-tiny",
  "gemma2-tiny",
  "llama3-tiny",
  "llama-dynamic",
  "gpt2-odd",
];
const PROMPTS = [[5, 1, 44, 7, 9], [12], [3, 3, 60]];

async function withModel(name: string, body: (model: CausalLM) => Promise<void>): Promise<void> {
  const model = await fromPretrained(fixtureFolder(name));
  await generate(model, [1], { maxNewTokens: 1 }); // makes the rotation tables, which stay
  const before = theGpu().stats().tensorsLive;
  await body(model);
  is(theGpu().stats().tensorsLive, before, "tensors that stay");
  model.dispose();
}

test("logits processors equal Transformers', alone and in a chain", async () => {
  const cases = JSON.parse(await readFile(fixtureFolder("sampling.json"), "utf8")) as Record<
    string,
    number
  >[];
  const bytes = await readFile(fixtureFolder("sampling.safetensors"));
  const { tensors } = readSafetensors("sampling", bytes);
  const rowsOf = (name: string) => {
    const { bytes, shape } = tensors.get(name)!;
    const [rows, width] = shape as [number, number];
    const { buffer } = new Uint8Array(bytes);
    const flat = name === "seen" ? new Int32Array(buffer) : new Float32Array(buffer);
    return Array.from({ length: rows }, (_, i) => flat.slice(i * width, (i + 1) * width));
  };
  ok(cases.length >= 15);
  for (const [i, settings] of cases.entries()) {
    const { temperature = 1, top_k, top_p = 1, min_p = 0, repetition_penalty = 1 } = settings;
    const topK = top_k ?? Infinity;
    const options = { temperature, topK, topP: top_p, minP: min_p };
    const [logits, seen, expected] = [rowsOf("logits"), rowsOf("seen"), rowsOf(`case.${i}`)];
    for (const [row, values] of logits.entries()) {
      const all = { ...options, repetitionPenalty: repetition_penalty };
      const got = processLogits(Float32Array.from(values), seen[row]!, all);
      for (const [id, want] of expected[row]!.entries()) {
        const near = got[id] === want || Math.abs(got[id]! - want) <= 1e-6 * Math.abs(want);
        ok(near, `${JSON.stringify(settings)}, row ${row}, token ${id}: ${got[id]} not ${want}`);
      }
    }
  }
});

test("a draw has the probabilities of the logits, and its chance is a function of seed, step and row", () => {
  const logits = Float32Array.of(Math.log(1), -Infinity, Math.log(3), Math.log(4));
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 8000; i++) counts[draw(logits, (i + 0.5) / 8000)]! += 1;
  equal(counts, [1000, 0, 3000, 4000]);
  is(draw(logits, 0), 0);
  is(draw(logits, 1 - 2 ** -32), 3);
  is(likeliest(Float32Array.of(1, 5, 5, 2)), 1);
  const chances = [chanceOf(1, 0, 0), chanceOf(1, 1, 0), chanceOf(1, 0, 1), chanceOf(2, 0, 0)];
  is(new Set(chances).size, 4);
  is(chanceOf(1, 0, 0), chances[0]);
  ok(chances.every((c) => c >= 0 && c < 1));
});

for (const name of FAMILIES) {
  gpuTest(`${name}: prompts of unequal length in one batch give Transformers' tokens`, async () => {
    const expected = await expectedOf(name);
    await withModel(name, async (model) => {
      const ids = [...(await expected.get("padded_ids").data())];
      const pads = await expected.get("padded_counts").data();
      const T = ids.length / pads.length;
      const prompts = Array.from(pads, (n, row) => ids.slice(row * T + n, (row + 1) * T));
      const want = [...(await expected.get("padded_tokens").data())];
      const got = await generateBatch(model, prompts, { maxNewTokens: want.length / pads.length });
      equal(got.flat(), want);
    });
    expected.free();
  });
}

for (const name of ["llama-tiny", "gpt2-tiny", "mistral-tiny"]) {
  gpuTest(`${name}: a row of a batch gets the tokens that it gets alone`, () =>
    withModel(name, async (model) => {
      const batch = await generateBatch(model, PROMPTS, { maxNewTokens: 9 });
      for (const [row, prompt] of PROMPTS.entries()) {
        equal(batch[row], await generate(model, prompt, { maxNewTokens: 9 }), `row ${row}`);
      }
      const options = { maxNewTokens: 9, temperature: 2, seed: 4, repetitionPenalty: 1.5 };
      const sampled = await generateBatch(model, PROMPTS, options);
      equal(sampled[0], await generate(model, PROMPTS[0]!, options), "the first row's numbers");
    }),
  );
}

gpuTest(
  "one seed gives one text, others give others, and a low temperature gives the likeliest",
  () =>
    withModel("llama-tiny", async (model) => {
      const text = (seed: number, temperature: number) =>
        generate(model, [1, 2, 3], { maxNewTokens: 12, temperature, seed });
      equal(await text(3, 1.5), await text(3, 1.5));
      not.equal(await text(3, 1.5), await text(4, 1.5));
      equal(await text(3, 1e-6), await text(9, 0));
      const only = await generate(model, [1, 2, 3], { maxNewTokens: 12, temperature: 9, topK: 1 });
      equal(only, await text(0, 0));
    }),
);

const TEXTS: { base: string; prompt: number[]; tokens: number[]; stop: number; ended: number[] }[] =
  JSON.parse(readFileSync(fixtureFolder("generate.json"), "utf8"));

for (const { base, prompt, tokens, stop, ended } of TEXTS) {
  gpuTest(`${base}: under a penalty, whole and stopped, the text is Transformers'`, () =>
    withModel(base, async (model) => {
      const options = { maxNewTokens: 12, repetitionPenalty: 1.3 };
      equal(await generate(model, prompt, options), tokens);
      // Transformers returns the stop token too.
      equal([...(await generate(model, prompt, { ...options, stop: [stop] })), stop], ended);
      const streamed: number[] = [];
      for await (const token of generateStream(model, prompt, options)) streamed.push(token);
      equal(streamed, tokens);
    }),
  );
}

gpuTest("a high penalty lets no token come twice", () =>
  withModel("llama-tiny", async (model) => {
    const options = { maxNewTokens: 16, repetitionPenalty: 1e9 };
    const tokens = await generate(model, [1, 2], options);
    is(new Set([1, 2, ...tokens]).size, 18);
  }),
);

gpuTest("stop tokens end their own row, are not returned, and default to the checkpoint's", () =>
  withModel("llama-tiny", async (model) => {
    const full = await generateBatch(model, PROMPTS, { maxNewTokens: 9 });
    const stop = [full[0]![3]!];
    const cut = full.map((tokens) => {
      const at = tokens.findIndex((token) => stop.includes(token));
      return at < 0 ? tokens : tokens.slice(0, at);
    });
    ok(cut[0]!.length <= 3 && cut.some((tokens) => tokens.length === 9), "some end, some do not");
    equal(await generateBatch(model, PROMPTS, { maxNewTokens: 9, stop }), cut);
    model.generationConfig = { eos_token_id: stop[0] };
    equal(await generateBatch(model, PROMPTS, { maxNewTokens: 9 }), cut);
    equal(await generateBatch(model, PROMPTS, { maxNewTokens: 9, stop: [] }), full);
    const steps: (number | null)[][] = [];
    for await (const tokens of generateBatchStream(model, PROMPTS, { maxNewTokens: 9 })) {
      steps.push(tokens);
    }
    is(steps.at(-1)![0], null);
    equal(
      steps.map((tokens) => tokens[0]).filter((token) => token !== null),
      cut[0],
    );
  }),
);

gpuTest("a stream that is left early frees its cache and leaves the model's mode as it was", () =>
  withModel("llama-tiny", async (model) => {
    const seen: number[] = [];
    for await (const token of generateStream(model, [7, 8], { maxNewTokens: 9 })) {
      seen.push(token);
      ok(!model.training);
      if (seen.length === 3) break;
    }
    ok(model.training);
    equal(seen, (await generate(model, [7, 8], { maxNewTokens: 9 })).slice(0, 3));
    equal(await generate(model, [7, 8], { maxNewTokens: 0 }), []);
  }),
);

gpuTest("the checkpoint's own settings become options; what is not supported is listed", () =>
  withModel("llama-tiny", async (model) => {
    model.generationConfig = { eos_token_id: 4, num_beams: 1, temperature: 0.3, bos_token_id: 1 };
    equal(
      generationOptions(model),
      { stop: [4], repetitionPenalty: 1 },
      "greedy without do_sample",
    );
    const sampled = { do_sample: true, temperature: 0.6, top_p: 0.9, eos_token_id: [2, 5] };
    model.generationConfig = { ...sampled, repetition_penalty: 1.1, max_new_tokens: 7 };
    equal(generationOptions(model), {
      stop: [2, 5],
      repetitionPenalty: 1.1,
      maxNewTokens: 7,
      temperature: 0.6,
      topK: 50,
      topP: 0.9,
      minP: 0,
    });
    model.generationConfig = { do_sample: true, top_k: 0 };
    is(generationOptions(model).topK, 67);
    model.generationConfig = { num_beams: 4, no_repeat_ngram_size: 3, suppress_tokens: [] };
    const parts = ["num_beams = 4", "no_repeat_ngram_size = 3"];
    throwsLike(() => generationOptions(model), "ValueError", "generation_config.json", ...parts);
    model.generationConfig = { repetition_penalty: "much" };
    throwsLike(() => generationOptions(model), "ValueError", "repetition_penalty must be a number");
  }),
);

gpuTest("options and prompts that do not fit are refused before anything runs", () =>
  withModel("llama-tiny", async (model) => {
    const refuse = async (prompts: number[][], options: object, ...parts: string[]) => {
      let error: unknown = null;
      await generateBatch(model, prompts, options).catch((e) => {
        error = e;
      });
      throwsLike(
        () => {
          if (error) throw error;
        },
        "ValueError",
        ...parts,
      );
    };
    await refuse([[1]], { temperature: -1 }, "temperature must be at least 0");
    await refuse([[1]], { topK: 0 }, "topK must be a positive integer");
    await refuse([[1]], { topP: 0 }, "topP must be in (0, 1]");
    await refuse([[1]], { minP: 2 }, "minP must be in [0, 1]");
    await refuse([[1]], { repetitionPenalty: 0 }, "repetitionPenalty must be a positive number");
    await refuse([[1]], { maxNewTokens: 1.5 }, "maxNewTokens must be a non-negative integer");
    await refuse([[1]], { maxNewTokens: 24 }, "prompt must be 1 to 0 tokens (24 fit");
    await refuse([[1], []], { maxNewTokens: 4 }, "prompt 1 must be 1 to 20 tokens", "got 0");
    await refuse([], {}, "prompts must be at least one prompt");
    await refuse([[1, 99]], { maxNewTokens: 4 }, "ids must be in [0, 66]", "got 99");
    ok(model.training);
    const { tensor } = await import("../../src/tensor/create.ts");
    const ids = tensor(Int32Array.of(1, 2), [1, 2]);
    const call = (pads: number[]) => () => model.call(ids, undefined, { pads });
    throwsLike(call([2]), "ValueError", "pads must be 1 integers in [0, 1]", "got [2]");
    throwsLike(call([1, 1]), "ValueError", "pads must be 1 integers");
    ids.dispose();
  }),
);

runTests();
