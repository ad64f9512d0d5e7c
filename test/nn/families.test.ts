// Every family against what Transformers computed from the same files: see scripts/fixtures/families.py.
import { readFile } from "node:fs/promises";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { slice } from "../../src/autograd/ops/index.ts";
import { ConfigReader } from "../../src/nn/config_reader.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { type RopeScaling, readRope, ropeFrequencies } from "../../src/nn/rope_scaling.ts";
import { expectedOf, fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

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

for (const name of FAMILIES) {
  gpuTest(`${name}: logits, loss and every gradient equal Transformers'`, async () => {
    const expected = await expectedOf(name);
    const model = (await fromPretrained(fixtureFolder(name))).requiresGrad(true);
    const ids = expected.get("input_ids");
    const logits = noGrad(() => model.call(ids));
    close(await logits.data(), await expected.get("logits").data(), 1e-5, "logits");
    const loss = model.loss(ids, expected.get("targets"));
    close(await loss.data(), await expected.get("loss").data(), 1e-5, "loss");
    backward(loss);
    const names = expected.keys.filter((key) => key.startsWith("grad."));
    is(names.length, model.parameters().length);
    for (const [path, p] of model.namedParameters()) {
      const want = await expected.get(`grad.${path}`).data();
      close(await p.grad!.data(), want, 2e-5, `gradient of ${path}`);
    }
    model.dispose();
    expected.free();
  });

  gpuTest(`${name}: twenty greedy tokens equal Transformers', with the cache`, async () => {
    const expected = await expectedOf(name);
    const model = await fromPretrained(fixtureFolder(name));
    const prompt = await expected.get("prompt").data();
    const tokens = await generate(model, prompt, { maxNewTokens: 20 });
    equal(tokens, [...(await expected.get("greedy").data())]);
    model.dispose();
    expected.free();
  });

  gpuTest(`${name}: padding on the left changes no logits of the tokens behind it`, async () => {
    const expected = await expectedOf(name);
    const model = await fromPretrained(fixtureFolder(name));
    const ids = expected.get("padded_ids");
    const pads = [...(await expected.get("padded_counts").data())];
    const [B, T] = ids.shape as [number, number];
    const logits = noGrad(() => model.call(ids, undefined, { pads }));
    for (let b = 0; b < B; b++) {
      const real = async (t: typeof logits) => slice(slice(t, 0, b, b + 1), 1, pads[b]!, T).data();
      const want = await real(expected.get("padded_logits"));
      close(await real(logits), want, 1e-5, `logits of row ${b}`);
    }
    model.dispose();
    expected.free();
  });
}

for (const name of FAMILIES.filter((name) => name !== "llama-dynamic")) {
  gpuTest(`${name}: the cache gives the logits of the full forward pass`, async () => {
    const expected = await expectedOf(name);
    const model = await fromPretrained(fixtureFolder(name));
    const ids = expected.get("input_ids");
    const [B, T] = ids.shape as [number, number];
    const full = noGrad(() => model.call(ids));
    using cache = model.newCache(B, 16);
    for (let t = 0; t < T; t += t === 0 ? 3 : t === 3 ? 2 : 1) {
      const end = t === 0 ? 3 : t === 3 ? 5 : t + 1;
      const some = noGrad(() => model.call(slice(ids, 1, t, end), cache));
      const want = await slice(full, 1, t, end).data();
      close(await some.data(), want, 1e-5, `logits at ${t}`);
    }
    model.dispose();
    expected.free();
  });
}

gpuTest("llama-tiny-f16: logits of weights held as f16 equal PyTorch's", async () => {
  const expected = await expectedOf("llama-tiny-f16");
  const model = await fromPretrained(fixtureFolder("llama-tiny-f16"));
  is(model.stateDict().get("model.layers.0.mlp.up_proj.weight")!.dtype, "f16");
  is(model.stateDict().get("model.norm.weight")!.dtype, "f32");
  const logits = noGrad(() => model.call(expected.get("input_ids")));
  close(await logits.data(), await expected.get("logits").data(), 1e-5, "logits");
  model.dispose();
  expected.free();
});

interface RopeCase {
  d: number;
  positions: number;
  parameters: Record<string, unknown>;
  length: number;
  frequencies: number[];
  amplitude: number;
}

test("rotary frequencies of every kind equal Transformers'", async () => {
  const cases = JSON.parse(await readFile(fixtureFolder("rope.json"), "utf8")) as RopeCase[];
  ok(cases.length >= 7);
  for (const { d, positions, parameters, length, frequencies, amplitude } of cases) {
    const reader = new ConfigReader({ rope_parameters: parameters });
    const scaling: RopeScaling = readRope(reader, positions, 10_000, new Set());
    reader.finish("the case");
    const got = ropeFrequencies(scaling, d, length);
    frequencies.forEach((want, i) => {
      const error = Math.abs(got[i]! - want) / want;
      ok(error < 2e-6, `${scaling.type} ${i}: expected ${want}, got ${got[i]}`); // theirs are f32
    });
    is(scaling.type === "yarn" ? scaling.amplitude : 1, amplitude);
    const old = { ...parameters, type: parameters.rope_type };
    const before = new ConfigReader({ rope_scaling: { ...old, rope_type: undefined } });
    equal(readRope(before, positions, 10_000, new Set()), scaling, "as older files say it");
  }
});

runTests();
