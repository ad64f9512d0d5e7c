// Many adapters on one base: switching, mixed batches, training side by side.
import { equal, is, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { noGrad } from "../../src/autograd/graph.ts";
import { slice } from "../../src/autograd/ops/index.ts";
import type { LoraConfig } from "../../src/lora/config.ts";
import { addLora, type Lora } from "../../src/lora/lora.ts";
import { sideBySideLoss } from "../../src/lora/side_by_side.ts";
import { swapAdapter } from "../../src/lora/swap.ts";
import { addWeightedAdapter } from "../../src/lora/weighted.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { generateBatch, generateStream } from "../../src/nn/generate.ts";
import { AdamW, clipGradNorm } from "../../src/nn/optim/index.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { capture } from "../../src/tensor/capture.ts";
import { tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, randomValues, runTests, theGpu, throwsLike } from "../gpu.ts";

const load = (name: string) => fromPretrained(fixtureFolder(name));
const batch = (rows: number, step: number, T = 9) =>
  tensor(
    Int32Array.from({ length: rows * T }, (_, i) => (i * (7 + 2 * step) + 5) % 67),
    [rows, T],
  );
const run = async (model: CausalLM, ids: Tensor) =>
  (await noGrad(() => model.call(ids)).data()) as Float32Array;

const CONFIGS: Record<string, LoraConfig> = {
  a: { r: 2, lora_alpha: 3, target_modules: "all-linear" },
  b: {
    r: 5,
    lora_alpha: 20,
    use_rslora: true,
    target_modules: ["q_proj", "up_proj", "c_attn", "wte", "embed_tokens"],
  },
  c: { r: 8, lora_alpha: 4, lora_dropout: 0.3, target_modules: ["v_proj", "c_fc", "c_attn"] },
};

/** A model with three adapters whose B's are not zero. */
async function three(base: string): Promise<{ model: CausalLM; lora: Lora }> {
  manualSeed(1);
  const model = await load(base);
  const lora = addLora(model, CONFIGS.a, "a");
  for (const name of ["b", "c"]) lora.addAdapter(name, CONFIGS[name]);
  let seed = 5;
  for (const { adapters } of lora.layers.values()) {
    for (const update of adapters.values()) {
      const key = update.sizes.isEmbedding ? "lora_A" : "lora_B";
      update[key] = tensor(
        randomValues(update[key].size, seed++, 0.3),
        update[key].shape,
      ).persist();
    }
  }
  return { model, lora };
}

for (const base of ["llama-tiny", "gpt2-tiny"]) {
  gpuTest(`M13 ${base}: rows of a mixed batch are what each adapter gives alone`, async () => {
    const { model, lora } = await three(base);
    model.eval();
    const names = ["c", "__base__", "a", "b", "a", ["a", "b"]] as const;
    const ids = batch(names.length, 1);
    const mixed = (await noGrad(() =>
      lora.withAdapterNames(names, () => model.call(ids)),
    ).data()) as Float32Array;
    const size = mixed.length / names.length;
    for (const [i, name] of names.entries()) {
      lora.setAdapter(name === "__base__" ? [] : name);
      const alone = await run(model, slice(ids, 0, i, i + 1));
      close(mixed.subarray(i * size, (i + 1) * size), alone, 1e-5, `row ${i}, ${name}`);
    }
    lora.setAdapter("a");
    const after = await run(model, ids);
    lora.setAdapter(["a"]);
    equal(await run(model, ids), after, "the active adapters are as before");
    model.dispose();
  });

  for (const { T, how } of [
    { T: 8, how: "to the bit, captured or not" },
    { T: 9, how: "where bindings cannot begin at every row" },
  ]) {
    gpuTest(`${base}: trained side by side, each adapter is what it is alone, ${how}`, async () => {
      const alone = new Map<string, Trained>();
      for (const name of Object.keys(TRIALS)) alone.set(name, await trainAlone(base, name, T));
      const exact = T === 8;
      for (const captured of exact ? [false, true] : [false]) {
        for (const [name, { losses, parameters }] of await trainSideBySide(base, T, captured)) {
          const expected = alone.get(name)!;
          if (exact) equal(losses, expected.losses, `${name}: losses`);
          else close(losses, expected.losses, 2e-5, `${name}: losses`);
          for (const [i, p] of parameters.entries()) {
            if (exact) equal(p, expected.parameters[i], `${name}: parameter ${i}`);
            else close(p, expected.parameters[i]!, 2e-4, `${name}: parameter ${i}`);
          }
        }
      }
    });
  }
}

/** Adapters of their own rank, alpha, dropout, seed and rate; one of them has an embedding and the head. */
const TRIALS: Record<string, { config: LoraConfig; seed: number; lr: number; clip: number }> = {
  a: { config: CONFIGS.a!, seed: 11, lr: 1e-2, clip: 1 },
  c: { config: CONFIGS.c!, seed: 12, lr: 3e-2, clip: 0.5 },
  d: { config: { ...CONFIGS.c, r: 1, lora_dropout: 0.1 }, seed: 13, lr: 1e-3, clip: 9 },
  e: {
    config: {
      r: 3,
      lora_dropout: 0.2,
      target_modules: ["embed_tokens", "wte", "q_proj", "c_fc", "lm_head"],
    },
    ...{ seed: 14, lr: 1e-2, clip: 1 },
  },
};
const [STEPS, ROWS] = [6, 4];

interface Trained {
  losses: number[];
  parameters: Float32Array[];
}

const valuesOf = async (list: readonly Tensor[]) =>
  (await Promise.all(list.map((p) => p.data()))) as Float32Array[];

async function trainAlone(base: string, name: string, T: number): Promise<Trained> {
  const { config, seed, lr, clip } = TRIALS[name]!;
  const model = await load(base);
  manualSeed(seed);
  const lora = addLora(model, config, name);
  using optimizer = new AdamW(lora.parameters(), { lr });
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    using _ = scope();
    const loss = model.loss(batch(ROWS, step, T), batch(ROWS, step + 1, T));
    backward(loss);
    clipGradNorm(optimizer, clip);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
  }
  const parameters = await valuesOf(lora.parameters());
  model.dispose();
  return { losses, parameters };
}

/** The same over one base, rows in any order: each adapter sees its own batch in order. */
async function trainSideBySide(
  base: string,
  T: number,
  captured: boolean,
): Promise<Map<string, Trained>> {
  const model = await load(base);
  let lora: Lora | null = null;
  for (const name of Object.keys(TRIALS)) {
    const { seed, config } = TRIALS[name]!;
    manualSeed(seed);
    if (lora) lora.addAdapter(name, config);
    else lora = addLora(model, config, name);
  }
  const names = Object.keys(TRIALS);
  lora!.setAdapter(names);
  const optimizers = names.map(
    (name) => new AdamW(lora!.parameters(name), { lr: TRIALS[name]!.lr }),
  );
  const two = ["d", "a", "c", "e", "c", "__base__", "a", "d", "e"];
  const rows = [...two, ...two];
  const pick = (values: Int32Array) => {
    const seen = new Map<string, number>();
    return Int32Array.from(
      rows.flatMap((name) => {
        const at = seen.get(name) ?? 0;
        seen.set(name, at + 1);
        return [...values.subarray(at * T, (at + 1) * T)];
      }),
    );
  };
  const [ids, targets] = [0, 1].map(() =>
    tensor(new Int32Array(rows.length * T), [rows.length, T]),
  );
  const fn = () => {
    const { total, losses } = sideBySideLoss(lora!, model, ids!, targets!, rows);
    backward(total);
    for (const [i, optimizer] of optimizers.entries()) {
      clipGradNorm(optimizer, TRIALS[names[i]!]!.clip);
      optimizer.step();
      optimizer.zeroGrad();
    }
    return Object.fromEntries(losses);
  };
  const step = captured ? capture(fn) : fn;
  const losses = new Map(names.map((name) => [name, [] as number[]]));
  for (let i = 0; i < STEPS; i++) {
    using _ = scope();
    ids!.set(pick((await batch(ROWS, i, T).data()) as Int32Array));
    targets!.set(pick((await batch(ROWS, i + 1, T).data()) as Int32Array));
    const found = step();
    for (const name of names) losses.get(name)!.push(await found[name]!.item());
  }
  const trained = new Map<string, Trained>();
  for (const name of names) {
    const parameters = await valuesOf(lora!.parameters(name));
    trained.set(name, { losses: losses.get(name)!, parameters });
  }
  for (const optimizer of optimizers) optimizer.dispose();
  model.dispose();
  return trained;
}

gpuTest("side by side: errors", async () => {
  const { model, lora } = await three("llama-tiny");
  const call = (rows: number, targets: number, names: string[]) =>
    sideBySideLoss(lora, model, batch(rows, 1), batch(targets, 1), names);
  throwsLike(
    () => call(2, 1, ["a", "b"]),
    "ShapeError",
    "sideBySideLoss: targets must be of the shape of ids, [2, 9], got [1, 9]",
  );
  throwsLike(
    () => call(2, 2, ["a"]),
    "ShapeError",
    "names must be 2 names, one for each sequence, got 1",
  );
  throwsLike(
    () => call(1, 1, ["__base__"]),
    "ValueError",
    "names must be those of adapters, got __base__",
  );
  throwsLike(() => call(1, 1, ["x"]), "ValueError", "the adapter must be one of a, b, c, got x");
  model.dispose();
});

/** Counts the pipelines that are made from now on. */
function countPipelines(): { made: number; stop: () => void } {
  const { device } = theGpu();
  const make = device.createComputePipeline.bind(device);
  const stop = () => {
    device.createComputePipeline = make;
  };
  const count = { made: 0, stop };
  device.createComputePipeline = (descriptor) => {
    count.made += 1;
    return make(descriptor);
  };
  return count;
}

gpuTest("M14: switching, blending and other scales build no pipeline", async () => {
  const { model, lora } = await three("llama-tiny");
  model.eval();
  const pipelines = countPipelines();
  const ids = batch(4, 1);
  const both = async () => {
    lora.setAdapter("a");
    const first = await run(model, ids);
    await noGrad(() =>
      lora.withAdapterNames(["a", "b", "c", "__base__"], () => model.call(ids)),
    ).data();
    return first;
  };
  const before = await both();
  pipelines.made = 0;
  lora.setAdapter("a");
  for (const scale of [0.5, -2, 0]) {
    for (const layer of lora.layers.values()) {
      for (const update of layer.active) update.scaling *= scale || 1;
    }
    await run(model, ids);
  }
  for (const layer of lora.layers.values()) for (const update of layer.active) update.scaling /= -1;
  equal(await both(), before, "A → other scales → A, bit for bit");
  await noGrad(() =>
    lora.withAdapterNames([["a", "b"], "c", ["c", "a"], "b"], () => model.call(ids)),
  ).data();
  is(pipelines.made, 0, "pipelines");
  pipelines.stop();
  model.dispose();
});

gpuTest("M4: withoutAdapters computes the base, and switches back after a throw", async () => {
  const { model, lora } = await three("llama-tiny");
  model.eval();
  const ids = batch(2, 1);
  const adapted = await run(model, ids);
  const base = await lora.withoutAdapters(() => noGrad(() => model.call(ids))).data();
  ok(adapted.some((v, i) => Math.abs(v - base[i]!) > 0.01));
  const out = () => {
    throw new Error("out");
  };
  throwsLike(() => lora.withoutAdapters(out), "Error", "out");
  equal(await run(model, ids), adapted);
  model.dispose();
});

for (const base of ["llama-tiny", "gpt2-tiny"]) {
  gpuTest(
    `M13 ${base}: async generation of a mixed batch is what each adapter gives alone`,
    async () => {
      const { model, lora } = await three(base);
      const names = ["c", "__base__", "a", "b", ["a", "b"]] as const;
      const prompts = names.map((_, i) =>
        Int32Array.from({ length: 3 + i }, (_, j) => 5 + 7 * j + i),
      );
      const options = { maxNewTokens: 12, stop: [] };
      const before = lora.activeAdapters;
      const mixed = await lora.withAdapterNames(names, () =>
        generateBatch(model, prompts, options),
      );
      const off = await lora.withoutAdapters(() => generateBatch(model, prompts, options));
      equal(lora.activeAdapters, before);
      const alone = async (active: string | readonly string[], i: number) => {
        lora.setAdapter(active);
        return (await generateBatch(model, [prompts[i]!], options))[0]!;
      };
      for (const [i, name] of names.entries()) {
        equal(mixed[i], await alone(name === "__base__" ? [] : name, i), `row ${i}, ${name}`);
        equal(off[i], await alone([], i), `row ${i}, without adapters`);
      }
      ok(names.every((name, i) => (String(mixed[i]) === String(off[i])) === (name === "__base__")));
      model.dispose();
    },
  );
}

gpuTest("M4: while an async function counts on the switches, nothing else switches", async () => {
  const { model, lora } = await three("llama-tiny");
  model.eval();
  const ids = batch(2, 1);
  const adapted = await run(model, ids);
  const refused = (fn: () => unknown, ...parts: string[]) => throwsLike(fn, "ValueError", ...parts);
  for (const [op, start] of [
    ["withAdapterNames", (fn: () => Promise<unknown>) => lora.withAdapterNames(["b", "c"], fn)],
    ["withoutAdapters", (fn: () => Promise<unknown>) => lora.withoutAdapters(fn)],
  ] as const) {
    let end!: (error: Error | null) => void;
    const gate = new Promise((good, bad) => {
      end = (error) => (error ? bad(error) : good(null));
    });
    const waiting = start(async () => {
      const first = await run(model, ids);
      await gate;
      equal(await run(model, ids), first);
      return first;
    });
    const switching: Record<string, () => unknown> = {
      withAdapterNames: () => lora.withAdapterNames(["a", "a"], () => 0),
      withoutAdapters: () => lora.withoutAdapters(async () => 0),
      setAdapter: () => lora.setAdapter("b"),
      addAdapter: () => lora.addAdapter("d"),
      deleteAdapter: () => lora.deleteAdapter("b"),
      enable: () => lora.enable(),
      disable: () => lora.disable(),
      merge: () => lora.merge(),
    };
    for (const [other, fn] of Object.entries(switching)) {
      const expected = `${other}: the adapters must be used by no other async function, got one that`;
      refused(fn, `${expected} still runs in \`${op}\`. Await it first`);
    }
    end(null);
    ok(String(await waiting) !== String(adapted));
    equal(await run(model, ids), adapted, "as before");
  }
  const out = lora.withoutAdapters(() => Promise.reject(new RangeError("out")));
  is(await out.catch((error) => `${error}`), "RangeError: out");
  equal(await run(model, ids), adapted, "after a rejection");
  refused(
    () => lora.withoutAdapters(() => generateStream(model, [1])),
    "withoutAdapters: fn must be a function that computes before it ends, got one that returns an iterator",
  );
  refused(
    () => lora.withoutAdapters(() => lora.withAdapterNames(["a", "b"], async () => 0)),
    "withAdapterNames: fn must be no async function inside of another call, got a promise",
  );
  equal(await run(model, ids), adapted, "after a refusal");
  model.dispose();
});

gpuTest("what mixed batches keep is freed with the adapters", async () => {
  const model = await load("llama-tiny");
  model.eval();
  const gpu = theGpu();
  await run(model, batch(2, 1)); // makes what the model keeps itself
  await gpu.sync();
  const before = gpu.stats().bytesLive;
  const lora = addLora(model, CONFIGS.a, "a");
  lora.addAdapter("b", CONFIGS.b);
  for (let i = 0; i < 3; i++) {
    using _ = scope();
    noGrad(() => lora.withAdapterNames(["a", "b"], () => model.call(batch(2, 1))));
  }
  lora.remove();
  is(gpu.stats().bytesLive, before);
  model.dispose();
});

gpuTest("rows of a mixed batch see no copies of an active adapter's modules_to_save", async () => {
  const { model, lora } = await three("llama-tiny");
  model.eval();
  const ids = batch(2, 1);
  const alone = await run(model, ids);
  lora.addAdapter("head", { r: 1, target_modules: ["q_proj"], modules_to_save: ["lm_head"] });
  const copy = lora.parameters("head").find((p) => p.shape[0] === model.sizes.vocabSize)!;
  copy.set(randomValues(copy.size, 3));
  lora.setAdapter("head");
  const mixed = lora.withAdapterNames(["a", "a"], () => noGrad(() => model.call(ids)));
  close((await mixed.data()) as Float32Array, alone, 1e-5, "logits");
  model.dispose();
});

gpuTest("M4: names, switching, deleting; state is restored whatever happens", async () => {
  const model = await load("llama-tiny");
  model.eval();
  const ids = batch(2, 1);
  const base = await run(model, ids);
  const own = model.parameters().length;
  const lora = addLora(model, CONFIGS.a, "a");
  const refused = (fn: () => unknown, ...parts: string[]) => throwsLike(fn, "ValueError", ...parts);
  refused(() => lora.addAdapter("a"), "addAdapter: name must be a new one, got a, which is taken");
  refused(
    () => lora.addAdapter("a.b"),
    'name must be a name without dots, slashes and blanks that is not __base__, got "a.b"',
  );
  refused(() => lora.addAdapter("__base__"), "name must be");
  refused(() => lora.setAdapter("x"), "the adapter must be one of a, got x");
  refused(() => lora.deleteAdapter("x"), "the adapter must be one of a, got x");
  refused(() => lora.withAdapterNames(["a", "x"], () => 0), "the adapter must be one of a, got x");
  throwsLike(
    () => lora.withAdapterNames(["a"], () => model.call(ids)),
    "ShapeError",
    "adapterNames must be 2 names",
  );
  equal(await run(model, ids), base, "after the error no rows are set");
  lora.addAdapter("q_proj", { modules_to_save: ["lm_head"] });
  lora.addAdapter("m", { modules_to_save: ["lm_head"], use_dora: true });
  refused(
    () => lora.setAdapter(["q_proj", "m"]),
    "names must be at most one with a copy of lm_head, got q_proj, m",
  );
  refused(() => lora.withAdapterNames(["m", "a"], () => 0), "got m, with DoRA");
  refused(
    () => lora.withAdapterNames(["q_proj", "a"], () => 0),
    "got q_proj, with modules_to_save",
  );
  refused(
    () => lora.addAdapter("up", { modules_to_save: ["0.mlp.up_proj"] }),
    "modules_to_save must be made of names of modules that no other adapter targets, got model.layers.0.mlp.up_proj, to which a adds",
  );
  refused(
    () => lora.addAdapter("head", { target_modules: ["lm_head"] }),
    "target_modules must be made of names of linear layers and embeddings, got lm_head, a SavedModule",
  );
  lora.addAdapter("with_bias", { bias: "all" });
  refused(
    () => lora.addAdapter("two", { bias: "lora_only" }),
    "bias must be none, for with_bias trains the biases of the base already",
  );
  equal(lora.adapters, ["a", "q_proj", "m", "with_bias"]);
  const all = lora.parameters("a");
  ok(all.every((p) => p.requiresGrad));
  lora.setAdapter("q_proj");
  ok(
    all.every((p) => !p.requiresGrad),
    "the others are frozen",
  );
  lora.merge();
  refused(() => lora.setAdapter("a"), "setAdapter: the adapters must be not merged");
  refused(() => lora.addAdapter("n"), "addAdapter: the adapters must be not merged");
  refused(() => lora.deleteAdapter("m"), "deleteAdapter: the adapters must be not merged");
  refused(
    () => lora.withAdapterNames(["a", "a"], () => 0),
    "withAdapterNames: the adapters must be not merged",
  );
  lora.unmerge();
  for (const name of lora.adapters) lora.deleteAdapter(name);
  equal(await run(model, ids), base);
  is(model.parameters().length, own);
  model.dispose();
});

gpuTest("M14: swapping adapters and mixing them by other weights build no pipeline", async () => {
  const model = await load("llama-tiny");
  const config = { r: 3, init_lora_weights: false, target_modules: "all-linear" };
  const lora = addLora(model, { ...config, lora_alpha: 2 }, "a");
  lora.addAdapter("b", { ...config, lora_alpha: 7 });
  model.eval();
  const ids = batch(2, 1);
  const one = tensor(Int32Array.of(3), [1, 1]);
  const all = async () => [...(await run(model, ids)), ...(await run(model, one))];
  const first = await all();
  swapAdapter(lora, "a", "b");
  const pipelines = countPipelines();
  swapAdapter(lora, "b", "a");
  const seen = [String(first), String(await all())];
  for (const [i, weights] of [
    [0.7, 0.3],
    [-1, 0.5],
    [0, 2],
  ].entries()) {
    // biome-ignore format: one line
    await addWeightedAdapter(lora, ["a", "b"], weights, `mix${i}`, { combination_type: "linear" });
    lora.setAdapter(`mix${i}`);
    seen.push(String(await all()));
  }
  is(pipelines.made, 0, "pipelines");
  pipelines.stop();
  is(new Set(seen).size, 5, "each computes something else");
  model.dispose();
});

gpuTest(
  "M14: an adapter's values take another's place in one copy, A → B → A bit for bit",
  async () => {
    const model = await load("llama-tiny");
    const config = { r: 3, init_lora_weights: false, target_modules: "all-linear" };
    const lora = addLora(model, { ...config, lora_alpha: 2 }, "a");
    lora.addAdapter("b", { ...config, lora_alpha: 7 });
    lora.addAdapter("spare", { ...config, lora_alpha: 2 });
    model.eval();
    const ids = batch(2, 1);
    const a = await run(model, ids);
    lora.setAdapter("b");
    const b = await run(model, ids);
    lora.setAdapter("a");
    is(swapAdapter(lora, "spare", "a"), 1, "copies");
    is(swapAdapter(lora, "a", "b"), 1, "copies");
    equal(await run(model, ids), b);
    const optimizer = new AdamW(lora.parameters("a"), { lr: 1e-2 });
    is(swapAdapter(lora, "a", "spare"), 1, "into an optimiser's memory too");
    equal(await run(model, ids), a);
    lora.addAdapter("other", { r: 2, target_modules: ["q_proj"] });
    throwsLike(
      () => swapAdapter(lora, "a", "other"),
      "ValueError",
      "swapAdapter: other must be of the names and shapes of a",
      "q_proj.lora_A",
    );
    equal(await run(model, ids), a);
    optimizer.dispose();
    model.dispose();
  },
);

gpuTest("M10: a tied embedding merged for good gives the head a copy of its own", async () => {
  const { model, lora } = await three("gpt2-tiny");
  lora.setAdapter("b");
  model.eval();
  const ids = batch(2, 1);
  const adapted = await run(model, ids);
  lora.mergeAndUnload();
  close(await run(model, ids), adapted, 1e-5, "merged for good");
  model.dispose();
});

runTests();
