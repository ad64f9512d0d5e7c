import { createHash } from "node:crypto";
import { equal, is, not, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora } from "../../src/lora/lora.ts";
import type { AnyModule } from "../../src/nn/module.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, throwsLike } from "../gpu.ts";

const MODELS = ["llama-tiny", "gpt2-tiny"];
const ids = () =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * 13 + 5) % 67),
    [2, 11],
  );
const targets = () =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * 7 + 1) % 67),
    [2, 11],
  );
const load = (name: string) => fromPretrained(fixtureFolder(name));

async function logits(model: AnyModule): Promise<Float32Array> {
  return (await noGrad(() => model.call(ids())).data()) as Float32Array;
}

async function hash(tensors: Iterable<Tensor>): Promise<string> {
  const digest = createHash("sha256");
  for (const t of tensors) digest.update(await t.rawBytes());
  return digest.digest("hex");
}

for (const name of MODELS) {
  gpuTest(`M1 ${name}: with lora_B = 0 the logits are the base's, bit for bit`, async () => {
    const model = await load(name);
    const before = await logits(model);
    for (const lora_dropout of [0, 0.3]) {
      const lora = addLora(model, { target_modules: "all-linear", r: 4, lora_dropout });
      equal(await logits(model), before);
      lora.remove();
    }
    model.dispose();
  });

  gpuTest(`M2 M3 M4 M5 M6 ${name}: training touches adapters alone`, async () => {
    manualSeed(1);
    const model = await load(name);
    const base = model.parameters();
    const [baseLogits, baseHash] = [await logits(model), await hash(base)];
    const lora = addLora(model, {
      target_modules: "all-linear",
      r: 4,
      lora_alpha: 8,
      lora_dropout: 0.1,
    });
    const first = model.loss(ids(), targets());
    backward(first);
    for (const [path, { active }] of lora.layers) {
      const { lora_A, lora_B } = active[0]!;
      ok(
        (await lora_A.grad!.data()).every((v) => v === 0),
        `M3: dA of ${path} is 0 while B is`,
      );
      ok(
        (await lora_B.grad!.data()).some((v) => v !== 0),
        `M3: dB of ${path} is not`,
      );
    }
    ok(
      base.every((p) => !p.grad),
      "M2: no gradient of a frozen weight",
    );
    const optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
    const losses: number[] = [];
    for (let step = 0; step < 30; step++) {
      using _ = scope();
      const loss = model.loss(ids(), targets());
      backward(loss);
      optimizer.step();
      optimizer.zeroGrad();
      losses.push(await loss.item());
    }
    ok(losses.at(-1)! < 0.7 * losses[0]!, `the loss fell from ${losses[0]} to ${losses.at(-1)}`);
    is(await hash(base), baseHash, "M2: the base's bytes");
    model.eval();
    const trained = await logits(model);
    not.equal(trained, baseLogits);
    lora.disable();
    equal(await logits(model), baseLogits, "M4: disabled equals base");
    lora.enable();
    equal(await logits(model), trained, "M4: enabled again");
    lora.merge();
    lora.merge();
    const largest = trained.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    close(await logits(model), trained, 1e-5, `M5: merged, largest logit ${largest}`);
    throwsLike(() => lora.disable(), "ValueError", "disable: the adapters must be not merged");
    lora.unmerge();
    lora.unmerge();
    equal(await logits(model), trained, "M6: unmerged");
    const names = new Set(lora.parameters());
    is(await hash(model.parameters().filter((p) => !names.has(p))), baseHash, "M6: bits restored");
    optimizer.dispose();
    lora.mergeAndUnload();
    close(await logits(model), trained, 1e-5, "merged for good");
    is(model.parameters().length, base.length);
    model.dispose();
  });

  gpuTest(`K7 ${name}: two runs with one seed give the same bits`, async () => {
    const run = async () => {
      manualSeed(5);
      const model = await load(name);
      const lora = addLora(model, { target_modules: "all-linear", r: 2, lora_dropout: 0.2 });
      const optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
      for (let step = 0; step < 5; step++) {
        using _ = scope();
        backward(model.loss(ids(), targets()));
        optimizer.step();
        optimizer.zeroGrad();
      }
      const bits = await hash(lora.parameters());
      optimizer.dispose();
      model.dispose();
      return bits;
    };
    is(await run(), await run());
  });
}

gpuTest(
  "loadStateDict finds an adapter's tensors by its name, and a state that does not fit changes none",
  async () => {
    manualSeed(4);
    using model = await load("llama-tiny");
    const lora = addLora(model, { r: 2, init_lora_weights: false }, "mine");
    lora.addAdapter("other", { r: 2, init_lora_weights: false });
    const at = (name: string, end: string) => `model.layers.1.self_attn.v_proj.${name}.lora_${end}`;
    lora.setAdapter("other");
    const expected = await logits(model);
    lora.setAdapter("mine");
    const before = await logits(model);
    const state = model.stateDict();
    const odd = new Map([...state, [at("mine", "A"), tensor(new Float32Array(4), [2, 2])]]);
    throwsLike(() => model.loadStateDict(odd), "FormatError", `${at("mine", "A")} is [2, 2], expected [2, 32]`); // biome-ignore format: one line
    equal(await logits(model), before);
    for (const name of [...state.keys()].filter((key) => key.includes(".mine."))) {
      state.set(name, state.get(name.replace(".mine.", ".other."))!.clone());
    }
    model.loadStateDict(state);
    equal(await logits(model), expected);
    ok(lora.parameters().every((p) => p.requiresGrad && !p.disposed));
    lora.setAdapter("other");
    equal(await logits(model), expected, "the other one is as it was");
  },
);

gpuTest("bad configurations say what is wrong, and change nothing", async () => {
  const model = await load("llama-tiny");
  const before = model.parameters().length;
  const refused = (config: LoraConfig, ...parts: string[]) =>
    throwsLike(() => addLora(model, config), "ValueError", ...parts);
  refused({ r: 0 }, "lora: r must be a positive integer, got 0");
  refused({ r: -2 }, "r must be a positive integer, got -2");
  refused({ lora_dropout: 1 }, "lora_dropout must be in [0, 1), got 1");
  refused({ lora_alpha: Number.NaN }, "lora_alpha must be a finite number");
  refused({ target_modules: ["q_prj"] }, "target_modules", "q_proj", "down_proj", '["q_prj"]');
  refused(
    { rank: 4 } as LoraConfig,
    "config must be made of LoraConfig's fields, got rank. Did you mean r?",
  );
  is(model.parameters().length, before);
  const lora = addLora(model, { target_modules: ["q_proj"], r: 2 });
  refused({}, "the model must be without adapters");
  is(lora.layers.size, 2);
  lora.remove();
  is(addLora(model, { target_modules: /.*layers\.1\.mlp\..*/, r: 2 }).layers.size, 3);
  model.dispose();
});

runTests();
