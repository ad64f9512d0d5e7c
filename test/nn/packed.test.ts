// Texts packed into rows: loss and gradients are those of each text alone, weighted by their tokens.
import { ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { addLora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";
import { checkRefused, f32, i32, type Refused } from "../refused.ts";

/** Two rows of several texts each; the prompts at the start of some do not count. */
const ROWS: { ids: number[]; skip: number }[][] = [
  [
    { ids: [5, 1, 44, 7, 9, 13], skip: 2 },
    { ids: [12, 61], skip: 0 },
    { ids: [3, 3, 60, 8], skip: 0 },
  ],
  [
    { ids: [17, 30, 2, 2, 41, 6, 55, 20], skip: 3 },
    { ids: [5, 1, 44, 19], skip: 1 },
  ],
];
const T = 11; // the last positions of a row are padding, each a text of its own

/** Inputs and targets of a text: what `skip` says does not count. */
const inputs = (text: { ids: number[] }) => text.ids.slice(0, -1);
const targets = (text: { ids: number[]; skip: number }) =>
  text.ids.slice(1).map((id, i) => (i < text.skip ? -100 : id));

function packed() {
  const [ids, labels, starts] = [[], [], []] as number[][] as [number[], number[], number[]];
  for (const row of ROWS) {
    const end = ids.length + T;
    for (const text of row) {
      const first = ids.length - (end - T);
      ids.push(...inputs(text));
      labels.push(...targets(text));
      starts.push(...inputs(text).map(() => first));
    }
    while (ids.length < end) {
      starts.push(ids.length - (end - T));
      ids.push(0);
      labels.push(-100);
    }
  }
  const shape = [ROWS.length, T];
  const make = (values: number[]) => tensor(Int32Array.from(values), shape);
  return { ids: make(ids), targets: make(labels), starts: make(starts) };
}

/** The sum over texts of tokens · (loss and gradients), divided by all tokens. */
async function apart(model: CausalLM) {
  let [loss, tokens] = [0, 0];
  let grads: Float64Array[] = [];
  for (const text of ROWS.flat()) {
    using _ = scope();
    const n = targets(text).filter((id) => id >= 0).length;
    const shape = [1, text.ids.length - 1];
    const make = (values: number[]) => tensor(Int32Array.from(values), shape);
    const own = model.loss(make(inputs(text)), make(targets(text)));
    backward(own);
    loss += n * (await own.item());
    tokens += n;
    const found = await gradients(model);
    grads = found.map((g, p) => g.map((value, i) => n * value + (grads[p]?.[i] ?? 0)));
  }
  return { loss: loss / tokens, grads: grads.map((g) => g.map((value) => value / tokens)) };
}

/** The gradients of the parameters, which are cleared. */
async function gradients(model: CausalLM): Promise<Float64Array[]> {
  const found: Float64Array[] = [];
  for (const p of model.trainableParameters()) {
    found.push(p.grad ? Float64Array.from(await p.grad.data()) : new Float64Array(p.size));
    p.grad = null;
  }
  return found;
}

const FAMILIES = [
  "gpt2-tiny", // learned positions
  "llama-tiny", // RoPE
  "llama3-tiny",
  "mistral-tiny", // a window
  "smollm3-tiny", // layers without positions
  "gemma2-tiny", // capped scores
];

for (const name of FAMILIES) {
  for (const lora of [false, true]) {
    gpuTest(`${name}${lora ? ", an adapter" : ""}: packed is as each text alone`, async () => {
      manualSeed(2);
      using model = (await fromPretrained(fixtureFolder(name))).requiresGrad(!lora);
      if (lora) addLora(model, { r: 3, init_lora_weights: false, target_modules: "all-linear" });
      const expected = await apart(model);
      const { ids, targets, starts } = packed();
      const loss = model.loss(ids, targets, { starts });
      backward(loss);
      close([await loss.item()], [expected.loss], 1e-5, "loss");
      const got = await gradients(model);
      const size = (all: Float64Array[]) => Math.max(...all.flatMap((g) => [...g.map(Math.abs)]));
      ok(size(got) > 1e-3, "there are gradients");
      for (const [i, g] of got.entries()) close(g, expected.grads[i]!, 1e-5, `gradient ${i}`);
      const mixed = await noGrad(() => model.loss(ids, targets)).item();
      ok(Math.abs(mixed - expected.loss) > 1e-3, "without starts the texts see each other");
    });
  }
}

gpuTest("packed rows: what does not fit is refused", async () => {
  using model = await fromPretrained(fixtureFolder("gpt2-tiny"));
  using dynamic = await fromPretrained(fixtureFolder("llama-dynamic"));
  const ids = i32(2, 9);
  const cache = model.newCache(2, 9);
  const [starts, short, floats] = [i32(2, 9), i32(2, 8), f32(2, 9)];
  const cases: Refused[] = [
    [
      () => model.loss(ids, ids, { starts: short }),
      "ShapeError: gpt2: starts must be of the shape of ids, [2, 9], got [2, 8].",
    ],
    [
      () => model.loss(ids, ids, { starts: floats }),
      "DTypeError: gpt2: starts must be i32, got f32.",
    ],
    [
      () => model.hidden(ids, cache, { starts }),
      "ValueError: gpt2: starts must be given alone, got both starts and a cache.",
    ],
    [
      () => model.loss(ids, ids, { starts, pads: [1, 0] }),
      "ValueError: gpt2: starts must be given alone, got both starts and pads.",
    ],
    [
      () => dynamic.loss(ids, ids, { starts }),
      "ValueError: llama: starts must be of rows of at most 8 tokens",
      "got rows of 9.",
    ],
  ];
  checkRefused(cases);
  cache.dispose();
});

runTests();
