// What must hold for each kind of adapter, from the first step to the file and back.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { decomposes } from "../../src/lora/decompose.ts";
import { addDecomposedLora, addLora, type Lora } from "../../src/lora/lora.ts";
import { loraPlusGroups } from "../../src/lora/lora_plus.ts";
import { loadAdapter, saveAdapter } from "../../src/lora/peft.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { AdamW } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, theGpu } from "../gpu.ts";

const load = (name: string) => fromPretrained(fixtureFolder(name));
const tokens = (step: number) =>
  tensor(
    Int32Array.from({ length: 22 }, (_, i) => (i * step + 5) % 67),
    [2, 11],
  );
export const logits = async (model: CausalLM) =>
  (await noGrad(() => model.call(tokens(13))).data()) as Float32Array;
const put = (model: CausalLM, config: LoraConfig): Promise<Lora> =>
  decomposes(config.init_lora_weights ?? true)
    ? addDecomposedLora(model, config)
    : Promise.resolve(addLora(model, config));

/** How many dispatches one forward pass takes. */
function dispatchesOf(model: CausalLM): number {
  using _ = scope();
  const before = theGpu().stats().dispatches;
  noGrad(() => model.call(tokens(13)));
  return theGpu().stats().dispatches - before;
}

export async function train(
  model: CausalLM,
  lora: Lora,
  steps: number,
  plus = false,
): Promise<number[]> {
  const groups = () => loraPlusGroups(lora, { lr: 2e-3, loraplus_lr_ratio: 16 });
  const optimizer = new AdamW(plus ? groups() : lora.parameters(), { lr: 1e-2 });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    using _ = scope();
    const loss = model.loss(tokens(13), tokens(7));
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  optimizer.dispose();
  return losses;
}

const VARIANTS: readonly [string, LoraConfig, plus?: true][] = [
  ["LoRA", {}],
  ["LoRA+", {}, true],
  ["rsLoRA", { use_rslora: true }],
  ["lora_bias", { lora_bias: true, target_modules: ["c_attn", "c_fc"] }],
  ["DoRA", { use_dora: true }],
  ["DoRA with dropout", { use_dora: true, lora_dropout: 0.2 }],
  [
    "DoRA, embedding",
    { use_dora: true, target_modules: ["wte", "embed_tokens", "c_fc", "o_proj"] },
  ],
  ["embedding", { target_modules: ["wte", "wpe", "embed_tokens", "c_attn", "v_proj"] }],
  ["modules_to_save", { modules_to_save: [] }],
  ["PiSSA", { init_lora_weights: "pissa" }],
  ["PiSSA, quick", { init_lora_weights: "pissa_niter_4" }],
  ["OLoRA", { init_lora_weights: "olora" }],
];

/** The tests of all kinds on one base. */
export function variantTests(base: string): void {
  for (const [name, config, plus] of VARIANTS) {
    if (config.lora_bias && base === "llama-tiny") continue;
    gpuTest(
      `M1 M2 M4 M5 M6 M7 M8 F4 ${name} on ${base}: from the first step to the file and back`,
      async () => {
        manualSeed(2);
        const model = await load(base);
        const before = await logits(model);
        const dispatches = dispatchesOf(model.eval());
        const base64 = await Promise.all(model.parameters().map((p) => p.rawBytes()));
        const own = model.parameters();
        const saved = base === "llama-tiny" ? ["model.norm", "lm_head"] : ["ln_f", "wpe"];
        const all = {
          ...{ target_modules: "all-linear", r: 4, lora_alpha: 8, ...config },
          ...(config.modules_to_save ? { modules_to_save: saved } : {}),
        };
        const lora = await put(model, all);
        const exact = !decomposes(config.init_lora_weights ?? true);
        model.eval();
        close(await logits(model), before, 1e-5, "M1: the first step computes the base");
        model.train();
        const losses = await train(model, lora, 20, plus);
        ok(losses.at(-1)! < 0.9 * losses[0]!, `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
        model.eval();
        const trained = await logits(model);
        lora.disable();
        close(await logits(model), before, exact ? 0 : 1e-5, "M4: disabled");
        lora.enable();
        equal(await logits(model), trained, "M4: enabled again");
        lora.merge();
        close(await logits(model), trained, 1e-5, "M5: merged");
        // A copy of a norm does without the kernel that adds before it.
        const apart = config.modules_to_save ? 1 : 0;
        is(dispatchesOf(model), dispatches + apart, "M8: merged, it is the base's work");
        lora.unmerge();
        equal(await logits(model), trained, "M6: unmerged");
        const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
        await saveAdapter(lora, folder);
        const again = await load(base);
        const loaded = await loadAdapter(again, folder);
        again.eval();
        // A random projection draws anew, and the rest of the base with it.
        if (config.init_lora_weights !== "pissa_niter_4") {
          close(await logits(again), trained, 1e-5, "F4: loaded");
          // To go on training gives what it would have given.
          manualSeed(9);
          const on = await train(model.train(), lora, 3, plus);
          manualSeed(9);
          close(await train(again.train(), loaded, 3, plus), on, 1e-5, "continued");
        }
        lora.remove();
        model.eval();
        close(await logits(model), before, exact ? 0 : 1e-5, "removed");
        is(model.parameters().length, own.length);
        for (const [i, p] of model.parameters().entries()) {
          if (exact) equal(await p.rawBytes(), base64[i], "M2: the base's bytes");
        }
        again.dispose();
        model.dispose();
        await rm(folder, { recursive: true });
      },
    );
  }
}
