// Layers computed again in backward: the same bits of loss and gradients, in less memory.
import { equal, is, not, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { addLora } from "../../src/lora/lora.ts";
import { sideBySideLoss } from "../../src/lora/side_by_side.ts";
import type { CausalLM, RowLayout } from "../../src/nn/causal_lm.ts";
import { GPT2LMHeadModel } from "../../src/nn/gpt2.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { capture } from "../../src/tensor/capture.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed, randomState } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

const SHAPE = [2, 11];
const ids = (shift: number) =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => ((i + shift) * (i + shift) + 3 * i) % 67),
    SHAPE,
  );
const starts = () =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i % 11 < 4 ? 0 : 4)),
    SHAPE,
  );

type Prepare = (model: CausalLM) => void;
const lora = (config: object): Prepare => {
  return (model) => {
    addLora(model, { r: 4, lora_dropout: 0.3, init_lora_weights: false, ...config });
  };
};

/** Loss, gradients by name, and where the random numbers are afterwards. */
async function outcome(model: CausalLM, loss: () => Tensor) {
  using _ = scope();
  manualSeed(11);
  const value = loss();
  backward(value);
  const gradients: [string, number[] | null][] = [];
  for (const [name, p] of model.namedParameters()) {
    if (p.requiresGrad) gradients.push([name, p.grad && [...(await p.grad.data())]]);
  }
  model.zeroGrad();
  return { loss: await value.item(), gradients, random: randomState() };
}

/** The same with layers kept and with layers computed again. */
async function both(model: CausalLM, loss: () => Tensor) {
  model.gradientCheckpointing = false;
  const plain = await outcome(model, loss);
  model.gradientCheckpointing = true;
  const { tensorsLive } = theGpu().stats();
  const again = await outcome(model, loss);
  is(theGpu().stats().tensorsLive, tensorsLive, "nothing is left");
  return { plain, again };
}

const CASES: [name: string, fixture: string, prepare: Prepare][] = [
  ["all of Llama trained", "llama-tiny", () => {}],
  ["all of GPT-2 trained, its own dropout", "gpt2-tiny", () => {}],
  ["Gemma 2", "gemma2-tiny", () => {}],
  ["LoRA with dropout", "llama-tiny", lora({ target_modules: "all-linear" })],
  ["LoRA on GPT-2", "gpt2-tiny", lora({ target_modules: "all-linear" })],
  ["DoRA with dropout", "llama-tiny", lora({ use_dora: true, target_modules: "all-linear" })],
  ["LoRA on the last layer alone", "llama-tiny", lora({ layers_to_transform: [1] })],
  ["a trained norm and head", "llama-tiny", lora({ modules_to_save: ["norm", "lm_head"] })],
];

for (const [name, fixture, prepare] of CASES) {
  gpuTest(`T6 ${name}: loss and gradients are the plain ones, bit for bit`, async () => {
    using model = await fromPretrained(fixtureFolder(fixture));
    prepare(model.train());
    const [x, y] = [ids(0), ids(1)];
    const layouts: RowLayout[] = [{}, { starts: starts() }, { pads: [0, 3] }];
    for (const layout of layouts) {
      const { plain, again } = await both(model, () => model.loss(x, y, layout));
      equal(again, plain);
      ok(plain.gradients.some(([, g]) => g?.some((v) => v !== 0)));
    }
  });
}

gpuTest("the masks that a second run draws matter, so that the tests above can fail", async () => {
  using model = await fromPretrained(fixtureFolder("llama-tiny"));
  lora({ target_modules: "all-linear" })(model.train());
  const [x, y] = [ids(0), ids(1)];
  const { gradients } = await outcome(model, () => model.loss(x, y));
  const other = await outcome(model, () => {
    manualSeed(12);
    return model.loss(x, y);
  });
  not.equal(other.gradients, gradients);
});

gpuTest(
  "adapters side by side, captured too: each by its own rows and random numbers",
  async () => {
    using model = await fromPretrained(fixtureFolder("llama-tiny"));
    const config = { r: 4, lora_dropout: 0.3, init_lora_weights: false };
    const run = async (gradientCheckpointing: boolean, captured: boolean) => {
      manualSeed(5);
      const adapters = addLora(model, config, "a");
      adapters.addAdapter("b", { ...config, r: 2 });
      adapters.setAdapter(["a", "b"]);
      Object.assign(model.train(), { gradientCheckpointing });
      const rows = Int32Array.from({ length: 64 }, (_, i) => (i * i) % 67); // enough for runs of rows
      const [x, y] = [tensor(rows, [4, 16]), tensor(rows.slice().reverse(), [4, 16])];
      const fn = () => {
        const { total } = sideBySideLoss(adapters, model, x, y, ["b", "b", "a", "a"]);
        backward(total);
        return total;
      };
      using step = capture(fn);
      const seen: number[][] = [];
      for (let i = 0; i < 4; i++) {
        using _ = scope();
        const total = captured ? step() : fn();
        seen.push([await total.item()]);
        for (const p of adapters.parameters()) seen.push([...(await p.grad!.data())]); // they add up
      }
      adapters.remove();
      return seen;
    };
    const plain = await run(false, false);
    equal(await run(true, false), plain);
    equal(await run(true, true), plain);
  },
);

gpuTest("peak memory of a step grows with layers by their inputs alone", async () => {
  const peakOf = (model: CausalLM, gradientCheckpointing: boolean): number => {
    using _ = scope();
    addLora(Object.assign(model.train(), { gradientCheckpointing }), { r: 4 });
    const [B, T] = [4, 32];
    const x = tensor(
      Int32Array.from({ length: B * T }, (_, i) => i % 60),
      [B, T],
    );
    const step = () => {
      using _ = scope();
      backward(model.loss(x, x));
      model.zeroGrad();
    };
    step();
    theGpu().resetPeak();
    step();
    const { activations } = theGpu().memory().categories;
    model.dispose();
    return activations.peak;
  };
  const width = 32;
  const made = {
    llama: (layers: number) =>
      new LlamaForCausalLM({
        ...{ vocab_size: 67, hidden_size: width, intermediate_size: 2 * width },
        ...{ num_hidden_layers: layers, num_attention_heads: 4, max_position_embeddings: 32 },
      }),
    gpt2: (layers: number) =>
      new GPT2LMHeadModel({
        ...{ vocab_size: 67, n_positions: 32, n_embd: width, n_layer: layers, n_head: 4 },
      }),
  };
  const stream = 4 * 4 * 32 * width; // bytes of one activation [B, T, width]
  for (const [name, make] of Object.entries(made)) {
    const [plain, again] = [false, true].map((on) => {
      return (peakOf(make(6), on) - peakOf(make(3), on)) / 3 / stream;
    });
    is(again, 2, `${name}: a layer more keeps the two summands of its input`);
    ok(plain! > 10, `${name}: ${plain}`);
  }
});

runTests();
