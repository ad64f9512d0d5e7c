// Loading a model folder: what is refused and how, what is passed over, and how much is read at once.
import { mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast } from "../../src/autograd/ops/index.ts";
import { grouped } from "../../src/nn/fit_checkpoint.ts";
import { LlamaForCausalLM } from "../../src/nn/llama.ts";
import type { LlamaConfig } from "../../src/nn/llama_config.ts";
import { fromPretrained, modelFromConfig, savePretrained } from "../../src/nn/pretrained.ts";
import { loadModelTensors } from "../../src/tensor/checkpoint.ts";
import { tensor } from "../../src/tensor/create.ts";
import { writeHeader } from "../../src/tensor/safetensors.ts";
import { PIECE_BYTES, saveSafetensors } from "../../src/tensor/safetensors_file.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

const CONFIG: LlamaConfig = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};

const ids = () => tensor(Int32Array.of(1, 2, 3, 4), [1, 4]);

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-load-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A folder with a model of these fields, whose tensors `change` may add to, take from or replace. */
async function write(
  folder: string,
  fields: Record<string, unknown> = {},
  change: (state: Record<string, Tensor>) => void = () => {},
): Promise<void> {
  const model = new LlamaForCausalLM(CONFIG);
  const state = Object.fromEntries(model.stateDict());
  change(state);
  await saveSafetensors(`${folder}/model.safetensors`, state, { format: "pt" });
  const config = { model_type: "llama", ...CONFIG, ...fields };
  await writeFile(`${folder}/config.json`, JSON.stringify(config));
  model.dispose();
}

/** Asserts that the folder is refused with an error that says all this, and that nothing is left of it. */
async function refused(
  folder: string,
  className: string,
  ...parts: (string | RegExp)[]
): Promise<void> {
  const before = theGpu().stats();
  let error: unknown = null;
  try {
    await fromPretrained(folder);
  } catch (e) {
    error = e;
  }
  const rethrow = () => {
    if (error) throw error;
  };
  throwsLike(rethrow, className, ...parts);
  const after = theGpu().stats();
  is(after.tensorsLive, before.tensorsLive, "tensors");
  is(after.bytesLive, before.bytesLive, "bytes");
}

gpuTest("an architecture that is not known is refused with those that are", () =>
  inFolder(async (folder) => {
    await write(folder, { model_type: "t5" });
    await refused(folder, "FormatError", "model_type", "llama, mistral, qwen2", "got t5");
  }),
);

gpuTest("every field that cannot be used is named in one error", () =>
  inFolder(async (folder) => {
    await write(folder, {
      hidden_size: 8.5,
      hidden_act: "quick_gelu",
      num_key_value_heads: 3,
      rope_scaling: { type: "longrope", factor: 2 },
      quantization_config: { bits: 4 },
      tie_word_embeddings: "yes",
      unheard_of: 3,
      absent: null,
      off: false,
    });
    await refused(
      folder,
      "FormatError",
      `${folder}/config.json`,
      "hidden_size must be a positive integer, got 8.5",
      'hidden_act must be one of silu, swish, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, got "quick_gelu"',
      "num_key_value_heads must be a divisor of num_attention_heads = 2, got 3",
      'rope_scaling.rope_type must be one of default, linear, dynamic, llama3, yarn, got "longrope"',
      'quantization_config.quant_method must be "bitsandbytes", got nothing',
      'tie_word_embeddings must be true or false, got "yes"',
      "unheard_of = 3 is not supported",
      /^(?!.*absent)(?!.*off =)/,
    );
  }),
);

gpuTest("fields that contradict one another are refused", () => {
  const refuse = (fields: Record<string, unknown>, ...parts: string[]) =>
    throwsLike(() => modelFromConfig({ ...CONFIG, ...fields }), "FormatError", ...parts);
  const linear = { rope_type: "linear", factor: 2 };
  refuse(
    {
      model_type: "llama",
      rope_scaling: { rope_type: "linear", factor: 4 },
      rope_parameters: linear,
    },
    "rope_scaling must be rope_parameters",
  );
  refuse({ model_type: "llama", num_attention_heads: 3 }, "hidden_size must be a multiple of");
  refuse({ model_type: "llama", head_dim: 5 }, "head_dim must be even");
  refuse(
    { model_type: "llama", rope_parameters: { rope_type: "linear" } },
    "rope_parameters.factor",
  );
  refuse(
    { model_type: "llama", rope_parameters: { ...linear, alpha: 7 } },
    "rope_parameters.alpha = 7",
  );
  refuse({ model_type: "llama", partial_rotary_factor: 0.5 }, "partial_rotary_factor must be 1");
  const llama3 = { rope_type: "llama3", factor: 2, low_freq_factor: 4, high_freq_factor: 1 };
  refuse({ model_type: "llama", rope_parameters: llama3 }, "high_freq_factor must be more than");
  const qwen2 = { model_type: "qwen2", num_key_value_heads: 2, tie_word_embeddings: true };
  const sliding = ["full_attention", "sliding_attention"];
  refuse({ ...qwen2, layer_types: sliding }, "sliding_window must be a number, for layer_types");
  refuse({ ...qwen2, layer_types: ["full_attention"] }, "layer_types must be a list of at least 2");
  refuse({ ...qwen2, layer_types: ["linear_attention", "full_attention"] }, "layer_types must be");
  const gpt2 = { vocab_size: 9, n_positions: 8, n_embd: 6, n_layer: 1, n_head: 4 };
  throwsLike(
    () => modelFromConfig({ ...gpt2, model_type: "gpt2", resid_pdrop: 1 }),
    "FormatError",
    "n_head must be a divisor of n_embd = 6, got 4",
    "resid_pdrop must be in [0, 1), got 1",
  );
});

gpuTest("a field that changes nothing can be passed over by name", () =>
  inFolder(async (folder) => {
    await write(folder, {
      unheard_of: 3,
      rope_parameters: { rope_type: "linear", factor: 2, x: 1 },
    });
    await refused(folder, "FormatError", "unheard_of = 3", "rope_parameters.x = 1");
    const model = await fromPretrained(folder, {
      ignoreConfig: ["unheard_of", "rope_parameters.x"],
    });
    is(model.sizes.maxLength, 32, "twice the context");
    model.dispose();
  }),
);

gpuTest("fields that a family lacks take the defaults of Transformers", () => {
  const spec = (fields: Record<string, unknown>) => {
    const model = modelFromConfig({ ...CONFIG, ...fields }) as LlamaForCausalLM;
    const { spec } = model;
    model.dispose();
    return spec;
  };
  equal(spec({ model_type: "mistral", num_key_value_heads: 1 }).windows, [4096, 4096]);
  equal(spec({ model_type: "mistral", num_key_value_heads: 1, sliding_window: null }).windows, [
    null,
    null,
  ]);
  is(spec({ model_type: "qwen3", num_key_value_heads: 2 }).headDim, 128);
  is(spec({ model_type: "qwen3", num_key_value_heads: 2, head_dim: null }).headDim, 4);
  is(spec({ model_type: "llama" }).kvHeads, 2);
  const { rope, rotates } = spec({ model_type: "smollm3", num_key_value_heads: null });
  equal([rope.theta, rotates], [2_000_000, [true, true]]);
  throwsLike(() => spec({ model_type: "mistral" }), "FormatError", "num_key_value_heads", "got 8");
});

gpuTest("missing, surplus and misshapen tensors are all listed, layers together", () =>
  inFolder(async (folder) => {
    await write(folder, {}, (state) => {
      for (const i of [0, 1]) delete state[`model.layers.${i}.mlp.up_proj.weight`];
      delete state["model.norm.weight"];
      state["model.layers.0.extra"] = tensor([1]);
      state["model.embed_tokens.weight"] = tensor([1, 2, 3]);
      state["model.layers.1.input_layernorm.weight"] = tensor(new Int32Array(8));
    });
    await refused(
      folder,
      "FormatError",
      `6 tensors of ${folder} do not fit the model`,
      "missing model.layers.{0-1}.mlp.up_proj.weight",
      "missing model.norm.weight",
      "surplus model.layers.0.extra",
      "model.embed_tokens.weight is [3], expected [16, 8]",
      "model.layers.1.input_layernorm.weight is I32, expected F32, F16 or BF16",
    );
    equal(grouped(["h.0.a", "h.2.a", "h.1.a", "h.7.a", "b"]), ["h.{0-2,7}.a", "b"]);
  }),
);

gpuTest("a damaged file or index is refused, and so is a folder without a model", () =>
  inFolder(async (folder) => {
    await refused(folder, "FormatError", "config.json cannot be read");
    await writeFile(`${folder}/config.json`, "{");
    await refused(folder, "FormatError", "config.json is not JSON");
    await write(folder);
    const whole = await readFile(`${folder}/model.safetensors`);
    await writeFile(`${folder}/model.safetensors`, whole.subarray(0, whole.length - 1));
    await refused(folder, "FormatError", "ends 1 bytes behind the file");
    await writeFile(`${folder}/generation_config.json`, "[]");
    await refused(folder, "FormatError", "generation_config.json must be a JSON object");
    await rm(`${folder}/generation_config.json`);
    await rm(`${folder}/model.safetensors`);
    await refused(folder, "FormatError", "model.safetensors cannot be read");
    await writeFile(`${folder}/part.safetensors`, whole);
    const index = {
      weight_map: { "model.norm.weight": "part.safetensors", ghost: "part.safetensors" },
    };
    await writeFile(`${folder}/model.safetensors.index.json`, JSON.stringify(index));
    await refused(
      folder,
      "FormatError",
      "part.safetensors holds no ghost",
      "holds model.embed_tokens.weight, which the index lacks",
    );
  }),
);

gpuTest("a tied head that is stored too is passed over if equal, and untied if not", () =>
  inFolder(async (folder) => {
    await write(folder, {}, (state) => {
      state["lm_head.weight"] = state["model.embed_tokens.weight"]!;
    });
    const tied = await fromPretrained(folder);
    ok(!tied.stateDict().has("lm_head.weight"));
    tied.dispose();
    const head = Float32Array.from({ length: 128 }, (_, i) => i / 100);
    await write(folder, {}, (state) => {
      state["lm_head.weight"] = tensor(head, [16, 8]);
    });
    const untied = await fromPretrained(folder);
    equal(await untied.stateDict().get("lm_head.weight")!.data(), head);
    untied.dispose();
    await write(folder, {}, (state) => {
      state["lm_head.weight"] = state["model.embed_tokens.weight"]!;
      delete state["model.embed_tokens.weight"];
    });
    const swapped = await fromPretrained(folder);
    ok(!swapped.stateDict().has("lm_head.weight"), "the head serves as the embedding");
    swapped.dispose();
  }),
);

gpuTest("a bare decoder's names and tensors that are computed here are put right", () =>
  inFolder(async (folder) => {
    await write(folder, {}, (state) => {
      for (const [name, t] of Object.entries(state)) {
        delete state[name];
        state[name.replace(/^model\./, "")] = t;
      }
      state["layers.0.self_attn.rotary_emb.inv_freq"] = tensor([1, 2]);
    });
    const model = await fromPretrained(folder);
    is(model.stateDict().size, 20);
    model.dispose();
  }),
);

gpuTest("matrices become what `dtype` asks for, vectors stay f32, and progress is told", () =>
  inFolder(async (folder) => {
    await write(folder);
    const plain = await loadModelTensors(folder);
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const seen: number[] = [];
      const model = await fromPretrained(folder, {
        dtype,
        onProgress: ({ bytesDone, bytesTotal }) => seen.push(bytesDone / bytesTotal),
      });
      for (const [name, p] of model.stateDict()) {
        is(p.dtype, p.rank === 1 ? "f32" : dtype, name);
        const want = noGrad(() => cast(plain.get(name)!, p.dtype));
        equal(await p.rawBytes(), await want.rawBytes(), name);
      }
      is(seen.length, 20);
      is(seen.at(-1), 1);
      model.dispose();
    }
    for (const t of plain.values()) t.dispose();
  }),
);

gpuTest("saved and loaded again: the same bytes, configuration, sampling and logits", () =>
  inFolder(async (folder) => {
    for (const name of ["qwen2-tiny", "gemma2-tiny", "gpt2-odd", "llama-tiny-f16"]) {
      const model = await fromPretrained(fixtureFolder(name));
      model.generationConfig = { eos_token_id: [3, 5], do_sample: true, temperature: 2 };
      await savePretrained(model, folder);
      const json = async (path: string) => JSON.parse(await readFile(path, "utf8"));
      equal(await json(`${folder}/config.json`), await json(`${fixtureFolder(name)}/config.json`));
      const again = await fromPretrained(folder);
      equal(again.generationConfig, model.generationConfig);
      for (const file of ["config.json", "generation_config.json"]) {
        const text = await readFile(`${folder}/${file}`, "utf8");
        // Transformers refuses an integer where a float belongs.
        ok(!/softcapping": \d+,|"(temperature|rope_theta|\w*dropout)": \d+,?$/m.test(text), text);
      }
      for (const [path, p] of model.stateDict()) {
        equal(await again.stateDict().get(path)!.rawBytes(), await p.rawBytes(), path);
      }
      const logits = await noGrad(() => model.call(ids())).data();
      close(await noGrad(() => again.call(ids())).data(), logits, 0, name);
      model.dispose();
      again.dispose();
    }
  }),
);

/** A folder with a model whose file is a hole on the disk: large, but taking no space. */
async function writeHollow(folder: string, config: LlamaConfig): Promise<number> {
  const { withEmptyWeights } = await import("../../src/nn/init.ts");
  const model = withEmptyWeights(() => new LlamaForCausalLM(config));
  const shapes = [...model.stateDict()].map(
    ([name, p]) => [name, { dtype: "f32" as const, shape: p.shape }] as const,
  );
  model.dispose();
  const { header } = writeHeader(new Map(shapes));
  const bytes = shapes.reduce(
    (sum, [, { shape }]) => sum + 4 * shape.reduce((a, b) => a * b, 1),
    0,
  );
  const path = `${folder}/model.safetensors`;
  await writeFile(path, header);
  await truncate(path, header.length + bytes);
  await writeFile(`${folder}/config.json`, JSON.stringify({ model_type: "llama", ...config }));
  return bytes;
}

gpuTest("a tensor larger than the device's buffers is refused before anything is read", () =>
  inFolder(async (folder) => {
    const most = theGpu().pool.bufferLimit;
    await writeHollow(folder, { ...CONFIG, vocab_size: Math.floor(most / 32) + 1 });
    const got = "model.embed_tokens.weight of";
    await refused(folder, "LimitError", `each tensor must be at most ${most} bytes`, got);
  }),
);

gpuTest("a model larger than the memory is refused before anything is read", () =>
  inFolder(async (folder) => {
    if (theGpu().adapterClass === "gpu") return; // only its own refusal tells what a GPU holds
    const layer = 3 * 1000 * 8000 * 4;
    const layers = Math.ceil((freemem() * 1.2) / layer);
    const sizes = {
      hidden_size: 1000,
      intermediate_size: 8000,
      num_hidden_layers: layers,
      num_attention_heads: 10,
    };
    const bytes = await writeHollow(folder, { ...CONFIG, ...sizes });
    await refused(folder, "LimitError", "the model must be at most", `got ${bytes} bytes`);
  }),
);

gpuTest("a device that runs out of memory refuses the model before anything is read", () =>
  inFolder(async (folder) => {
    await write(folder);
    const gpu = theGpu();
    const { acquire } = gpu.pool;
    let taken = 0;
    gpu.pool.acquire = function (op, bytes) {
      taken += Number(op === "load");
      // As Dawn reports what vkAllocateMemory refused: not at the call, but at the next sync.
      if (taken === 5) {
        const event = { error: { message: "Out of memory" }, preventDefault() {} };
        gpu.device.onuncapturederror!(event as unknown as GPUUncapturedErrorEvent);
      }
      return acquire.call(this, op, bytes);
    };
    try {
      await refused(folder, "LimitError", "the model must be at most what the device can hold");
    } finally {
      gpu.pool.acquire = acquire;
    }
    ok(taken >= 5);
    const model = await fromPretrained(folder);
    model.dispose();
  }),
);

gpuTest("no read takes more than a piece, however large the tensor", () =>
  inFolder(async (folder) => {
    const rows = Math.ceil((2.5 * PIECE_BYTES) / (4 * 64));
    await writeHollow(folder, { ...CONFIG, hidden_size: 64, vocab_size: rows });
    const handle = await open(`${folder}/model.safetensors`, "r+");
    const { size } = await handle.stat();
    await handle.write(Float32Array.of(7), 0, 4, size - 4);
    const reads: number[] = [];
    const prototype = Object.getPrototypeOf(handle);
    await handle.close();
    const { read } = prototype;
    prototype.read = function (buffer: unknown, offset: number, length: number, at: number) {
      reads.push(length);
      return read.call(this, buffer, offset, length, at);
    };
    try {
      const model = await fromPretrained(folder);
      const values = await model.stateDict().get("model.norm.weight")!.data();
      is(values.at(-1), 7, "the last element of the file");
      model.dispose();
    } finally {
      prototype.read = read;
    }
    is(Math.max(...reads), PIECE_BYTES);
  }),
);

runTests();
