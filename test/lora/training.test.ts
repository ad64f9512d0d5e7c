// Training with adapters: what it computes, what it remembers, and what it costs.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { equal, is, not, ok, throws } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { add, div, dropout, linear, matmul, mul, slice } from "../../src/autograd/ops/index.ts";
import { BindGroups } from "../../src/kernels/bind_groups.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { profile } from "../../src/kernels/profile.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora, type Lora } from "../../src/lora/lora.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import type { Conv1D, Linear } from "../../src/nn/layers.ts";
import { AdamW, type Optimizer, SGD } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { randn, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, theGpu } from "../gpu.ts";

const MODELS = ["llama-tiny", "gpt2-tiny"];

/** Made-up tokens [rows, 11]. */
const tokens = (rows: number, step = 7) =>
  tensor(
    Int32Array.from({ length: rows * 11 }, (_, i) => (i * step + 3) % 67),
    [rows, 11],
  );

interface Setup {
  model: CausalLM;
  lora: Lora;
}

async function adapted(name: string, config: LoraConfig): Promise<Setup> {
  manualSeed(1);
  const model = await fromPretrained(fixtureFolder(name));
  return { model, lora: addLora(model, { target_modules: "all-linear", ...config }) };
}

async function oneStep({ model }: Setup, optimizer: Optimizer): Promise<number> {
  using _ = scope();
  const loss = model.loss(tokens(2, 13), tokens(2));
  backward(loss);
  optimizer.step();
  optimizer.zeroGrad();
  return loss.item();
}

/** Makes each adapter compute in plain ops what `loraLinear` computes fused. */
function usePlainOps({ lora }: Setup): void {
  for (const layer of lora.layers.values()) {
    const base = layer.base_layer as Linear | Conv1D;
    const { lora_A: A, lora_B: B, scaling, dropout: p } = layer.active[0]!;
    layer.forward = (x) => {
      const S = matmul(dropout(x, p), A, { transposeB: true });
      const y = linear(x, base.weight, base.bias, { transposed: layer.transposed });
      return add(y, mul(matmul(S, B, { transposeB: true }), scaling));
    };
    layer.callBeside = (x, modules) => modules.map((m) => m.call(x));
  }
}

for (const name of MODELS) {
  gpuTest(`K3 ${name}: thirty steps, fused and in plain ops, have the same losses`, async () => {
    const runs: number[][] = [];
    for (const fused of [true, false]) {
      const setup = await adapted(name, { r: 4, lora_alpha: 8, lora_dropout: 0.1 });
      if (!fused) usePlainOps(setup);
      const optimizer = new AdamW(setup.lora.parameters(), { lr: 1e-2 });
      const losses: number[] = [];
      for (let step = 0; step < 30; step++) losses.push(await oneStep(setup, optimizer));
      runs.push(losses);
      optimizer.dispose();
      setup.model.dispose();
    }
    ok(runs[0]![29]! < 0.8 * runs[0]![0]!, `${runs[0]}`);
    close(runs[0]!, runs[1]!, 1e-4, "losses");
  });
}

/** How often each kernel of lora_linear runs in one step. */
async function calls(fn: () => unknown): Promise<Record<string, number>> {
  const { ops } = await profile(fn);
  const own = ops.filter(({ label }) => label.startsWith("lora_linear_"));
  return Object.fromEntries(own.map(({ label, calls }) => [label.slice(12), calls]));
}

for (const dropout of [0, 0.1]) {
  gpuTest(
    `K2 layers on one input share its passes: thirty steps as apart, ${dropout}`,
    async () => {
      const runs: number[][] = [];
      const ids = [tokens(16, 13), tokens(16)] as const; // 16 · 11 · r elements of S fill whole bindings
      for (const path of ["auto", "plain"] as const) {
        const config = { r: 4, lora_alpha: 8, lora_dropout: dropout };
        const { model, lora } = await adapted("llama-tiny", config);
        const optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
        const losses: number[] = [];
        setKernelPath(path);
        try {
          const step = () => {
            using _ = scope();
            const loss = model.loss(...ids);
            backward(loss);
            optimizer.step();
            optimizer.zeroGrad();
            losses.push(loss.item() as never);
          };
          for (let i = 0; i < 29; i++) step();
          // Two blocks of seven layers: q, k, v and gate, up are one call each where they share.
          const products = path === "auto" ? 8 : 14;
          const alone = { forward: 14, backward_s: 14, backward_b: 14 };
          const shared = { forward_s: products, backward_a: products };
          equal(await calls(step), { ...alone, ...shared, backward_x: 11 }); // nothing below q, k, v of the first
        } finally {
          setKernelPath("auto");
        }
        runs.push(await Promise.all(losses));
        optimizer.dispose();
        model.dispose();
      }
      ok(runs[0]![29]! < 0.8 * runs[0]![0]!, `${runs[0]}`);
      close(runs[0]!, runs[1]!, 1e-4, "losses");
    },
  );
}

gpuTest("M2: a frozen weight costs no memory but its own", async () => {
  const setup = await adapted("llama-tiny", { r: 2 });
  const { model, lora } = setup;
  const padded = (bytes: number) => Math.ceil(bytes / 256) * 256;
  const adapters = lora.parameters().reduce((sum, p) => sum + padded(p.bytes), 0);
  const before = theGpu().stats().bytesLive;
  const optimizer = new AdamW(lora.parameters(), { lr: 1e-2 });
  await oneStep(setup, optimizer);
  const grown = theGpu().stats().bytesLive - before;
  // Gradients and two moments of the adapters, and an eighth for the pool's size classes.
  ok(grown <= 3.5 * adapters, `${grown} bytes for ${adapters} of adapters`);
  const trained = new Set(lora.parameters());
  for (const [path, p] of model.namedParameters()) is(p.grad !== null, trained.has(p), path);
  optimizer.dispose();
  is(theGpu().stats().bytesLive < before + adapters, true, "all of it is given back");
  model.dispose();
});

gpuTest(
  "M4: without the adapters for a while, nested or thrown out of, and then as before",
  async () => {
    const setup = await adapted("llama-tiny", { r: 2, init_lora_weights: false });
    const { model, lora } = setup;
    const logits = async () => (await noGrad(() => model.call(tokens(2))).data()) as Float32Array;
    const off = () => lora.withoutAdapters(() => noGrad(() => model.call(tokens(2)))).data();
    const on = await logits();
    const base = await off();
    not.equal(on, base);
    const inner = () => lora.withoutAdapters(() => 1) + 1;
    equal(
      await lora.withoutAdapters(() => [inner(), logits()] as const)[1],
      base,
      "still off outside",
    );
    throws(
      () =>
        lora.withoutAdapters(() => {
          throw new Error("on purpose");
        }),
      "on purpose",
    );
    equal(await logits(), on, "on again");
    lora.disable();
    inner();
    equal(await logits(), base, "what was off before stays off");
    model.dispose();
  },
);

for (const name of MODELS) {
  gpuTest(`M5 M6 ${name}: every layer by itself, merged and unmerged`, async () => {
    const setup = await adapted(name, { r: 4, lora_alpha: 8 });
    const optimizer = new AdamW(setup.lora.parameters(), { lr: 1e-2 });
    for (let step = 0; step < 10; step++) await oneStep(setup, optimizer);
    for (const [path, layer] of setup.lora.layers) {
      const x = randn([5, layer.sizes.in]);
      const run = async () => (await noGrad(() => layer.call(x)).data()) as Float32Array;
      const before = await run();
      layer.merge();
      close(await run(), before, 1e-5, `${path}: merged`);
      layer.unmerge();
      equal(await run(), before, `${path}: unmerged`);
    }
    optimizer.dispose();
    setup.model.dispose();
  });
}

gpuTest("T1: one batch is learned by heart", async () => {
  const setup = await adapted("llama-tiny", {
    r: 8,
    lora_alpha: 16,
    target_modules: /.*(_proj|lm_head)/,
  });
  const optimizer = new AdamW(setup.lora.parameters(), { lr: 2e-2 });
  let loss = Number.NaN;
  for (let step = 0; step < 60 && !(loss < 0.05); step++) loss = await oneStep(setup, optimizer);
  ok(loss < 0.05, `the loss is still ${loss}`);
  optimizer.dispose();
  setup.model.dispose();
});

gpuTest("T5: two half batches accumulate to the whole one", async () => {
  const [x, y] = [tokens(4, 13), tokens(4)];
  const results: { grads: Float32Array[]; after: Float32Array[] }[] = [];
  for (const parts of [1, 2]) {
    const { model, lora } = await adapted("llama-tiny", { r: 4, init_lora_weights: false });
    const optimizer = new SGD(lora.parameters(), { lr: 0.1 });
    for (let i = 0; i < parts; i++) {
      const rows = (t: Tensor) => slice(t, 0, (4 / parts) * i, (4 / parts) * (i + 1));
      backward(div(model.loss(rows(x), rows(y)), parts));
    }
    const read = (list: Tensor[]) =>
      Promise.all(list.map(async (t) => (await t.data()) as Float32Array));
    const grads = await read(lora.parameters().map((p) => p.grad!));
    optimizer.step();
    results.push({ grads, after: await read(lora.parameters()) });
    optimizer.dispose();
    model.dispose();
  }
  const [whole, halves] = results as [(typeof results)[0], (typeof results)[0]];
  for (const [i, g] of whole.grads.entries()) close(halves.grads[i]!, g, 1e-5, `gradient ${i}`);
  for (const [i, p] of whole.after.entries()) close(halves.after[i]!, p, 1e-5, `parameter ${i}`);
});

/** Bytes of JavaScript's heap after a collection, finalizers included. */
async function heapBytes(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return process.memoryUsage().heapUsed;
}

gpuTest("T10: a hundred training steps grow no tensors, buffers or JavaScript heap", async () => {
  const setup = await adapted("llama-tiny", { r: 4, lora_dropout: 0.1 });
  const optimizer = new AdamW(setup.lora.parameters(), { lr: 1e-3 });
  const hundredSteps = async () => {
    const heap = await heapBytes();
    const before = account();
    for (let i = 0; i < 100; i++) await oneStep(setup, optimizer);
    equal(account(), before);
    return (await heapBytes()) - heap;
  };
  const account = () => {
    const { tensorsLive, buffersLive, bytesLive, bytesReserved } = theGpu().stats();
    const bindGroups = BindGroups.of(theGpu()).size; // equal steps get equal buffers
    return { tensorsLive, buffersLive, bytesLive, bytesReserved, bindGroups };
  };
  for (let i = 0; i < 5; i++) await oneStep(setup, optimizer);
  // The engine compiles what is hot in the first thousand steps: six hundreds in a row may grow by 85 to 366 kB, and
  // forty of them shrank by 437. What leaks, leaks in every hundred.
  const grown: number[] = [];
  do grown.push(await hundredSteps());
  while (grown.at(-1)! > 128 * 1024 && grown.length < 20);
  ok(
    grown.at(-1)! <= 128 * 1024,
    `in hundreds of steps the heap grew by ${grown.join(", ")} bytes`,
  );
  optimizer.dispose();
  setup.model.dispose();
});

runTests();
