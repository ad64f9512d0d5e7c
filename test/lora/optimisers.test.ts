// LoRA+ and LoRA-FA against PEFT.
import { readFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { reshape, slice } from "../../src/autograd/ops/index.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora } from "../../src/lora/lora.ts";
import { LoraFA } from "../../src/lora/lora_fa.ts";
import { loraPlusGroups } from "../../src/lora/lora_plus.ts";
import { loadAdapter, peftStateDict } from "../../src/lora/peft.ts";
import { AdamW, SGD } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import { expectedOf, fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";

const fixture = JSON.parse(readFileSync(fixtureFolder("lora_optim.json"), "utf8"));
const load = (name: string) => fromPretrained(fixtureFolder(name));

for (const { base, config, groups } of fixture.loraplus) {
  gpuTest(`M17 LoRA+: PEFT's groups for ${JSON.stringify(config)}`, async () => {
    const model = await load(base);
    const lora = addLora(model, config as LoraConfig);
    const names = new Map(Object.entries(peftStateDict(lora)).map(([name, p]) => [p, name]));
    const options = { lr: 0.5, loraplus_lr_ratio: 4, loraplus_weight_decay: 0.1 };
    const ours = loraPlusGroups(lora, options).map(({ params, ...settings }) => ({
      ...settings,
      params: params.map((p) => names.get(p)!).sort(),
    }));
    // PEFT also decays LayerNorm's weights not at all; of these models none is saved.
    equal(ours, groups);
    model.dispose();
  });
}

gpuTest("M17 LoRA+: under SGD, B moves ratio times as far as A would", async () => {
  const model = await load("llama-tiny");
  const lora = addLora(model, { r: 2 });
  const optimizer = new SGD(loraPlusGroups(lora, { lr: 0.25, loraplus_lr_ratio: 16 }));
  const [[, layer]] = [...lora.layers] as [[string, ReturnType<typeof lora.layers.get> & object]];
  const { lora_A, lora_B } = layer.active[0]!;
  const before = (await lora_A.data()).slice();
  lora_A.grad = tensor(new Float32Array(lora_A.size).fill(1), lora_A.shape);
  lora_B.grad = tensor(new Float32Array(lora_B.size).fill(1), lora_B.shape);
  optimizer.step();
  ok((await lora_B.data()).every((v) => v === -4));
  close(
    await lora_A.data(),
    before.map((v) => v - 0.25),
    1e-7,
    "A",
  );
  throwsLike(
    () => loraPlusGroups(lora, { lr: 1, loraplus_lr_ratio: 0.5 }),
    "ValueError",
    "loraplus_lr_ratio must be at least 1, got 0.5",
  );
  optimizer.dispose();
  model.dispose();
});

for (const { adapter, base, losses, after } of fixture.lorafa) {
  gpuTest(`LoRA-FA on ${adapter}: five steps are PEFT's`, async () => {
    const expected = await expectedOf(adapter);
    const model = await load(base);
    const lora = await loadAdapter(model.eval(), fixtureFolder(adapter));
    const A = await Promise.all([...lora.layers.values()].map((l) => l.active[0]!.lora_A.data()));
    const optimizer = await LoraFA.create(lora, { lr: 1e-2, weightDecay: 0.1 });
    const ours: number[] = [];
    for (let step = 0; step < 5; step++) {
      using _ = scope();
      const batch = (key: string) => {
        const all = expected.get(key);
        return reshape(slice(all, 0, step, step + 1), all.shape.slice(1));
      };
      const loss = model.loss(batch("train_ids"), batch("train_targets"));
      backward(loss);
      optimizer.step();
      optimizer.zeroGrad();
      ours.push(await loss.item());
    }
    close(ours, losses, 1e-4, "losses");
    for (const [name, values] of Object.entries(after as Record<string, number[]>)) {
      close(await peftStateDict(lora)[name]!.data(), values, 2e-4, name);
    }
    for (const [i, layer] of [...lora.layers.values()].entries()) {
      is(layer.active[0]!.lora_A.grad, null, "A has no gradient");
      equal(await layer.active[0]!.lora_A.data(), A[i], "A stays");
    }
    optimizer.dispose();
    expected.free();
    model.dispose();
  });
}

gpuTest(
  "LoRA-FA: directions that A lacks get no gradient, and nothing becomes infinite",
  async () => {
    const model = await load("llama-tiny");
    const lora = addLora(model, { r: 2 });
    const layer = [...lora.layers.values()][0]!;
    const row = randomValues(layer.sizes.in, 5);
    layer.active[0]!.lora_A = tensor(Float32Array.from([...row, ...row]), [2, layer.sizes.in]);
    const optimizer = await LoraFA.create(lora, { lr: 1e-2 });
    const { lora_B } = layer.active[0]!;
    lora_B.grad = zeros(lora_B.shape);
    optimizer.step();
    ok((await lora_B.data()).every((v) => v === 0));
    optimizer.dispose();
    model.dispose();
  },
);

gpuTest("an optimiser of LoRA+ trains", async () => {
  const model = await load("gpt2-tiny");
  const lora = addLora(model, { r: 2, target_modules: "all-linear" });
  const optimizer = new AdamW(loraPlusGroups(lora, { lr: 1e-3, loraplus_lr_ratio: 16 }));
  const ids = tensor(
    Int32Array.from({ length: 20 }, (_, i) => (i * 7) % 67),
    [2, 10],
  );
  const losses: number[] = [];
  for (let step = 0; step < 10; step++) {
    using _ = scope();
    const loss = model.loss(ids, ids);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  ok(losses.at(-1)! < 0.95 * losses[0]!, `${losses}`);
  optimizer.dispose();
  model.dispose();
});

runTests();
