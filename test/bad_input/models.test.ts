// Models and adapters: ids and targets out of range, states and paths that do not fit, ranks and targets.
import { is, ok } from "uvu/assert";
import { addLora } from "../../src/lora/lora.ts";
import { Linear } from "../../src/nn/layers.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { tensor } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, runTests, throwsLike } from "../gpu.ts";
import { anything, checkRefused, f32, i32, type Refused } from "../refused.ts";

gpuTest("a model's ids and targets", () => {
  using model = new LlamaForCausalLM({
    vocab_size: 8,
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: 4,
  });
  const row = (...values: number[]) => tensor(Int32Array.from(values), [1, values.length]);
  const [good, high, long, flat] = [row(1, 2), row(1, 8), row(1, 2, 3, 4, 5), i32(2)];
  model.call(good); // now the tables of positions are made
  const says = "llama: ids must be [batch, tokens] with at most 4 tokens, got";
  checkRefused([
    [() => model.call(high), "ValueError: embedding: ids must be in [0, 7], got 8"],
    [() => model.call(long), `ShapeError: ${says} [1, 5]`],
    [() => model.call(flat), `ShapeError: ${says} [2]`],
    [
      () => model.loss(good, long),
      "ShapeError: loss: targets must be of the shape of ids, [1, 2], got [1, 5]",
    ],
  ]);
  const call = () => model.loss(good, high);
  throwsLike(call, "ValueError", "cross_entropy: targets must be in [0, 7], got 8");
});

gpuTest("modules: unknown paths, and states that do not fit", () => {
  using layer = new Linear(2, 3);
  using child = new Linear(1, 1);
  const state = (bias: Tensor) =>
    new Map<string, Tensor>(Object.entries({ weight: f32(3, 2), bias }));
  const [long, whole, freed, t] = [state(f32(4)), state(i32(3)), state(f32(3)), f32(1)];
  freed.get("bias")!.dispose();
  const { weight } = layer;
  checkRefused([
    [
      () => layer.module("a.b"),
      'ValueError: module: path must be the name of a module, got "a.b"',
      "List them with `namedModules()`",
    ],
    [() => layer.setModule("a.b", child), "ValueError: module: path must be the name of a module"],
    [() => layer.setParameter("a.b", t), "ValueError: setParameter: path must be the name of a"],
    [
      () => layer.loadStateDict(new Map()),
      "FormatError: loadStateDict: 2 tensors do not fit: missing weight; missing bias. Nothing",
    ],
    [() => layer.loadStateDict(long), "FormatError: loadStateDict: ", "bias is [4], expected [3]"],
    [() => layer.loadStateDict(whole), "FormatError: loadStateDict: ", "bias is i32, expected f32"],
    [() => layer.loadStateDict(freed), "FormatError: loadStateDict: ", "bias was freed"],
  ]);
  is(layer.weight, weight);
});

gpuTest("LoRA: a rank or a target that does not fit, and nothing is frozen", () => {
  class Net extends Linear {
    inner = new Linear(4, 4);
  }
  using net = new Net(6, 4);
  const refused = (config: Parameters<typeof addLora>[1], error: string, part = ""): Refused => {
    return [() => addLora(net, config), `ValueError: lora: ${error}`, part];
  };
  const kinds = "target_modules must be a list of names, a regular expression or";
  const none = "target_modules must be given, for there is no default for this model, got none";
  checkRefused([
    refused({ r: 0 }, "r must be a positive integer, got 0"),
    refused({ r: -1 }, "r must be a positive integer, got -1"),
    refused({ r: 1.5 }, "r must be a positive integer, got 1.5"),
    refused(
      { r: 5, init_lora_weights: "pissa", target_modules: ["inner"] },
      "r must be at most 4 with pissa, the smaller side of inner [4, 4], got 5",
    ),
    refused(
      { target_modules: ["outer"] },
      "target_modules must be a match",
      '(inner), got ["outer"',
    ),
    refused({ target_modules: [] }, "target_modules must be a match for", "got []"),
    refused({ target_modules: "(" }, "target_modules must be a regular expression, got ("),
    refused({ target_modules: anything(3) }, kinds, "got 3"),
    refused({}, none),
    refused({ lora_alpha: Number.NaN }, "lora_alpha must be a finite number, got NaN"),
    refused({ lora_dropout: 1 }, "lora_dropout must be in [0, 1), got 1"),
  ]);
  checkRefused([
    [
      () => addLora(net.inner, { target_modules: "all-linear" }),
      "ValueError: lora: target_modules must be",
      "has none",
    ],
  ]);
  ok(
    net.parameters().every((p) => p.requiresGrad),
    "nothing was frozen",
  );
});

runTests();
