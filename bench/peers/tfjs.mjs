// TensorFlow.js on WebGPU: the same cases from its plain ops. Not TypeScript, because the libraries are
// not installed where the types are checked.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { borrowAdapter, gently, serve } from "./serve.ts";

await serve(async () => {
  const borrowed = await borrowAdapter();
  const require = createRequire(import.meta.url); // its gradients have no entry that Node's import accepts
  const tf = require("@tensorflow/tfjs-core");
  require("@tensorflow/tfjs-core/dist/register_all_gradients.js");
  require("@tensorflow/tfjs-backend-webgpu");
  await tf.setBackend("webgpu");
  await tf.ready();
  const manifest = new URL("node_modules/@tensorflow/tfjs-core/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  const make = { gemm, lora, gpt };
  return {
    name: `TensorFlow.js ${version}, WebGPU`,
    prepare: async (work, values) => {
      const inputs = new Map(
        work.inputs.map(({ name, shape, below }) => {
          const data = values.get(name);
          return [name, tf.tensor(below ? Int32Array.from(data) : data, shape, below && "int32")];
        }),
      );
      const { run, results, dispose } = make[work.kind](tf, work, inputs);
      return {
        run: async (runs) => {
          const made = Array.from({ length: runs }, run);
          submit(tf.backend());
          await gently(borrowed.device.queue.onSubmittedWorkDone());
          tf.dispose(made);
        },
        results,
        dispose: () => {
          dispose?.();
          tf.dispose([...inputs.values()]);
        },
      };
    },
  };
});

/** Submits what the backend has recorded but holds back. */
function submit(backend) {
  if (!backend.commandEncoder) return;
  backend.endComputePassEncoder();
  backend.submitQueue();
}

async function read(t) {
  return Float32Array.from(await gently(t.data()));
}

function gemm(tf, { layout }, inputs) {
  const product = () =>
    tf.matMul(inputs.get("a"), inputs.get("b"), layout === "TN", layout === "NT");
  return {
    run: product,
    results: async () => [await read(product())],
  };
}

function lora(tf, { scale }, inputs) {
  const [x, W, A, B, dy] = ["x", "W", "A", "B", "dy"].map((name) => inputs.get(name));
  const forward = (x, A, B) => {
    const low = tf.matMul(tf.matMul(x, A, false, true), B, false, true);
    return tf.add(tf.matMul(x, W, false, true), tf.mul(low, scale));
  };
  const gradients = tf.grads(forward);
  const both = () => tf.tidy(() => gradients([x, A, B], dy));
  return {
    run: both,
    results: async () => Promise.all(both().map(read)),
  };
}

function gpt(tf, work, inputs) {
  const { sizes, learningRate, weightDecay } = work;
  const { r, vocabulary } = sizes;
  const names = [...inputs.keys()].filter((name) => !["ids", "targets"].includes(name));
  const trained = names.filter((name) => (r > 0 ? /\.[AB]$/.test(name) : true));
  const frozen = new Map(names.filter((n) => !trained.includes(n)).map((n) => [n, inputs.get(n)]));
  const oneHot = (name) =>
    tf.oneHot(tf.reshape(inputs.get(name), [-1]), vocabulary, 1, 0, "float32");
  const ids = oneHot("ids"); // a table is looked up by a product: the gradient of gather is slower
  const targets = oneHot("targets");
  const state = trained.map((name) => ({
    p: inputs.get(name).clone(),
    m: tf.zerosLike(inputs.get(name)),
    v: tf.zerosLike(inputs.get(name)),
  }));
  const lossOf = (...values) => {
    const weights = new Map([...frozen, ...trained.map((name, i) => [name, values[i]])]);
    return loss(tf, work, weights, ids, targets);
  };
  const gradients = tf.valueAndGrads(lossOf);
  let steps = 0;
  /** AdamW in PyTorch's order of operations; the library has Adam without weight decay only. */
  const update = ({ p, m, v }, g) => {
    const [c1, c2] = [1 - 0.9 ** steps, 1 - 0.999 ** steps];
    const newM = tf.add(tf.mul(m, 0.9), tf.mul(g, 0.1));
    const newV = tf.add(tf.mul(v, 0.999), tf.mul(tf.square(g), 0.001));
    const move = tf.div(newM, tf.add(tf.div(tf.sqrt(newV), Math.sqrt(c2)), 1e-8));
    const kept = tf.mul(p, 1 - learningRate * weightDecay);
    return { p: tf.sub(kept, tf.mul(move, learningRate / c1)), m: newM, v: newV };
  };
  const step = () => {
    steps += 1;
    const [value, next] = tf.tidy(() => {
      const { value, grads } = gradients(state.map(({ p }) => p));
      return [value, state.map((s, i) => update(s, grads[i]))];
    });
    tf.dispose(state);
    state.splice(0, state.length, ...next);
    return value;
  };
  return {
    run: step,
    results: async () => {
      const losses = [];
      for (let i = 0; i < 2; i++) losses.push((await read(step()))[0]);
      return [Float32Array.from(losses)];
    },
    dispose: () => tf.dispose([state, ids, targets]),
  };
}

function loss(tf, { sizes, scale }, weights, ids, targets) {
  const { layers, width, heads, context: T, batch } = sizes;
  const get = (name) => weights.get(name);
  const linear = (name, x) => {
    const y = tf.add(tf.matMul(x, get(`${name}.weight`)), get(`${name}.bias`));
    if (!weights.has(`${name}.A`)) return y;
    const S = tf.matMul(x, get(`${name}.A`), false, true);
    return tf.add(y, tf.mul(tf.matMul(S, get(`${name}.B`), false, true), scale));
  };
  const norm = (name, x) => {
    const centered = tf.sub(x, tf.mean(x, 1, true));
    const variance = tf.mean(tf.square(centered), 1, true);
    const scaled = tf.mul(centered, tf.rsqrt(tf.add(variance, 1e-5)));
    return tf.add(tf.mul(scaled, get(`${name}.weight`)), get(`${name}.bias`));
  };
  const gelu = (x) => {
    const inner = tf.mul(tf.add(x, tf.mul(tf.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
  };
  const mask = tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([T, T]), -1, 0)), -1e30);
  const attention = (name, x) => {
    const split = (t) =>
      tf.transpose(tf.reshape(t, [batch, T, heads, width / heads]), [0, 2, 1, 3]);
    const [q, k, v] = tf.split(linear(`${name}.c_attn`, x), 3, 1).map(split);
    const scores = tf.mul(tf.matMul(q, k, false, true), Math.sqrt(heads / width));
    const y = tf.matMul(tf.softmax(tf.add(scores, mask)), v);
    return linear(`${name}.c_proj`, tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [batch * T, width]));
  };
  const positions = tf.tile(get("wpe.weight"), [batch, 1]);
  let x = tf.add(tf.matMul(ids, get("wte.weight")), positions);
  for (let i = 0; i < layers; i++) {
    x = tf.add(x, attention(`h.${i}.attn`, norm(`h.${i}.ln_1`, x)));
    const inner = gelu(linear(`h.${i}.mlp.c_fc`, norm(`h.${i}.ln_2`, x)));
    x = tf.add(x, linear(`h.${i}.mlp.c_proj`, inner));
  }
  const logits = tf.matMul(norm("ln_f", x), get("wte.weight"), false, true);
  return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), targets), 1)));
}
