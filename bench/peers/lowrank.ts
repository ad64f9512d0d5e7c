// This library, in a process of its own like the others.
import { backward } from "../../src/autograd/backward.ts";
import { loraLinear, matmul } from "../../src/autograd/ops/index.ts";
import { init } from "../../src/gpu/device.ts";
import { addLora } from "../../src/lora/index.ts";
import { AdamW, GPT2LMHeadModel } from "../../src/nn/index.ts";
import { tensor } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import type { PeerCase } from "./cases.ts";
import { type Prepared, serve } from "./serve.ts";

type Kind<K extends PeerCase["kind"]> = Extract<PeerCase, { kind: K }>;
type Inputs = Map<string, Tensor>;
/** `run` starts a run. */
type Part = Pick<Prepared, "results"> & { run: () => void };

await serve(async () => {
  const gpu = await init();
  return {
    name: "lowrank",
    prepare: async (work, values) => {
      const all = scope();
      const inputs: Inputs = new Map(
        work.inputs.map(({ name, shape, below }) => {
          const data = values.get(name)!;
          return [name, tensor(below ? Int32Array.from(data) : data, shape)];
        }),
      );
      const { run, results } =
        work.kind === "gemm"
          ? gemm(work, inputs)
          : work.kind === "lora"
            ? lora(work, inputs)
            : gpt(work, inputs);
      return {
        run: async (runs) => {
          for (let i = 0; i < runs; i++) run();
          await gpu.sync();
        },
        results,
        dispose: () => all[Symbol.dispose](),
      };
    },
  };
});

async function read(t: Tensor): Promise<Float32Array> {
  return Float32Array.from(await t.data());
}

function gemm({ layout }: Kind<"gemm">, inputs: Inputs): Part {
  const [a, b] = [inputs.get("a")!, inputs.get("b")!];
  const options = { transposeA: layout === "TN", transposeB: layout === "NT" };
  return {
    run: () => {
      using _ = scope();
      matmul(a, b, options);
    },
    results: async () => {
      using _ = scope();
      return [await read(matmul(a, b, options))];
    },
  };
}

function lora({ scale }: Kind<"lora">, inputs: Inputs): Part {
  const get = (name: string) => inputs.get(name)!;
  const [x, W, A, B, dy] = [get("x"), get("W"), get("A"), get("B"), get("dy")];
  const trained = [x, A, B];
  for (const p of trained) p.requiresGrad = true;
  const clear = () => {
    for (const p of trained) {
      p.grad?.dispose();
      p.grad = null;
    }
  };
  const both = () => backward(loraLinear(x, W, null, A, B, { scale }), { gradient: dy });
  return {
    run: () => {
      using _ = scope();
      both();
      clear();
    },
    results: async () => {
      using _ = scope();
      both();
      const gradients: Float32Array[] = [];
      for (const p of trained) gradients.push(await read(p.grad!));
      clear();
      return gradients;
    },
  };
}

function gpt(work: Kind<"gpt">, inputs: Inputs): Part {
  const { sizes, scale, learningRate: lr, weightDecay } = work;
  const model = new GPT2LMHeadModel({
    vocab_size: sizes.vocabulary,
    n_positions: sizes.context,
    n_embd: sizes.width,
    n_layer: sizes.layers,
    n_head: sizes.heads,
  });
  const weights = [...inputs].filter(([name]) => /\.(weight|bias)$/.test(name));
  model.loadStateDict(new Map(weights.map(([name, t]) => [`transformer.${name}`, t])));
  const r = sizes.r;
  const adapters =
    r > 0 && addLora(model, { r, lora_alpha: r * scale, target_modules: "all-linear" });
  if (adapters) {
    for (const [path, layer] of adapters.layers) {
      const at = path.replace("transformer.", "");
      for (const kind of ["A", "B"]) {
        const value = inputs.get(`${at}.${kind}`)!;
        layer.adapters.get("default")!.setParameter(`lora_${kind}`, value);
        value.requiresGrad = true;
      }
    }
  }
  const optimizer = new AdamW((adapters || model).parameters(), { lr, weightDecay });
  const [ids, targets] = [inputs.get("ids")!, inputs.get("targets")!];
  const step = (): Tensor => {
    const loss = model.loss(ids, targets);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  };
  return {
    run: () => {
      using _ = scope();
      step();
    },
    results: async () => {
      const losses: number[] = [];
      for (let i = 0; i < 2; i++) {
        using _ = scope();
        losses.push(await step().item());
      }
      return [Float32Array.from(losses)];
    },
  };
}
