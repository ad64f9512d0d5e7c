import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { reshape, slice } from "../../src/autograd/ops/index.ts";
import { loadAdapter, peftStateDict, saveAdapter } from "../../src/lora/peft.ts";
import { AdamW, clipGradNorm } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectedOf, fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

const ADAPTERS = [
  ["peft-llama-tiny", "llama-tiny"],
  ["peft-llama-tiny-rslora", "llama-tiny"],
  ["peft-llama-tiny-all-linear", "llama-tiny"],
  ["peft-gpt2-tiny", "gpt2-tiny"],
] as const;

function batchOf(all: Tensor, step: number): Tensor {
  return reshape(slice(all, 0, step, step + 1), all.shape.slice(1));
}

for (const [name, base] of ADAPTERS) {
  gpuTest(`F2 ${name}: logits, merged logits and gradients equal PEFT's`, async () => {
    const expected = await expectedOf(name);
    const model = await fromPretrained(fixtureFolder(base));
    const lora = await loadAdapter(model, fixtureFolder(name));
    const facts = JSON.parse(await readFile(`${fixtureFolder(name)}/facts.json`, "utf8"));
    equal([...lora.layers.keys()].sort(), [...facts.matched].sort());
    is(lora.count().trainable, facts.trainable);
    const ids = expected.get("input_ids");
    const logits = await noGrad(() => model.call(ids)).data();
    close(logits, await expected.get("logits").data(), 1e-5, "logits");
    lora.merge();
    const merged = await noGrad(() => model.call(ids)).data();
    close(merged, await expected.get("logits_merged").data(), 1e-5, "merged logits");
    lora.unmerge();
    equal(await noGrad(() => model.call(ids)).data(), logits, "unmerged again, bit for bit");
    if (expected.keys.includes("loss")) {
      const loss = model.loss(ids, expected.get("targets"));
      close(await loss.data(), await expected.get("loss").data(), 1e-5, "loss");
      backward(loss);
      for (const [path, p] of Object.entries(peftStateDict(lora))) {
        close(await p.grad!.data(), await expected.get(`grad.${path}`).data(), 2e-5, path);
      }
      const trained = new Set(lora.parameters());
      for (const p of model.parameters()) ok(trained.has(p) || !p.grad, "a frozen gradient");
    }
    model.dispose();
    expected.free();
  });
}

for (const [name, base] of ADAPTERS.filter(([n]) => /tiny$/.test(n))) {
  gpuTest(`${name}: five AdamW steps on the adapter equal PEFT's`, async () => {
    const expected = await expectedOf(name);
    const model = await fromPretrained(fixtureFolder(base));
    const lora = await loadAdapter(model, fixtureFolder(name));
    const optimizer = new AdamW(lora.parameters(), { lr: 1e-2, weightDecay: 0.1 });
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      using _ = scope();
      const ids = batchOf(expected.get("train_ids"), step);
      const loss = model.loss(ids, batchOf(expected.get("train_targets"), step));
      backward(loss);
      clipGradNorm(optimizer, 1);
      optimizer.step();
      optimizer.zeroGrad();
      losses.push(await loss.item());
    }
    close(losses, await expected.get("losses").data(), 1e-4, "losses");
    optimizer.dispose();
    model.dispose();
    expected.free();
  });

  gpuTest(
    `F4 F8 ${name}: saved and loaded again, bit for bit, and nothing but the adapter`,
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
      const model = await fromPretrained(fixtureFolder(base));
      const lora = await loadAdapter(model, fixtureFolder(name));
      await saveAdapter(lora, folder, { base });
      const ours = await readFile(`${folder}/adapter_model.safetensors`);
      const theirs = await readFile(`${fixtureFolder(name)}/adapter_model.safetensors`);
      const { size } = await stat(`${folder}/adapter_model.safetensors`);
      const bytes = lora.parameters().reduce((sum, p) => sum + p.bytes, 0);
      ok(size > bytes && size - bytes < 4096, `${size} bytes for ${bytes} of numbers`);
      ok(ours.equals(theirs), "the file differs from PEFT's");
      const again = await fromPretrained(fixtureFolder(base));
      const loaded = await loadAdapter(again, folder);
      for (const [path, p] of Object.entries(peftStateDict(lora))) {
        equal(await peftStateDict(loaded)[path]!.rawBytes(), await p.rawBytes(), path);
      }
      model.dispose();
      again.dispose();
      await rm(folder, { recursive: true });
    },
  );
}

runTests();
