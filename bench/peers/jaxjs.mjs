// jax-js on WebGPU or wasm: the same cases from its plain ops, each under `jit`. An array is used up by the
// op that takes it; `.ref` keeps it. Not TypeScript, because it is not installed where the types are checked.
import { readFileSync } from "node:fs";
import { borrowAdapter, gently, serve } from "./serve.ts";

const backend = process.argv[2];

await serve(async () => {
  if (backend === "webgpu") await borrowAdapter();
  const jax = await import("@jax-js/jax");
  const started = await jax.init(backend);
  if (!started.includes(backend)) throw new Error(`jax-js has no backend ${backend} here`);
  jax.defaultDevice(backend);
  const manifest = new URL("node_modules/@jax-js/jax/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  const make = { gemm, lora, gpt };
  return {
    name: `jax-js ${version}, ${backend === "webgpu" ? "WebGPU" : "wasm"}`,
    prepare: async (work, values) => {
      const inputs = new Map(
        work.inputs.map(({ name, shape, below }) => {
          const data = values.get(name);
          const typed = below ? Int32Array.from(data) : data;
          return [name, jax.numpy.array(typed, { shape })];
        }),
      );
      const { run, results, state, dispose } = make[work.kind](jax, work, inputs);
      return {
        run: async (runs) => {
          for (let i = 0; i < runs; i++) {
            const made = run();
            // Nothing runs before somebody waits for it; a long queue is slower than waiting each time.
            await gently(jax.blockUntilReady([made, state?.() ?? []]));
            jax.tree.dispose(made);
          }
        },
        results,
        dispose: () => {
          dispose?.();
          for (const t of inputs.values()) t.dispose();
        },
      };
    },
  };
});

async function read(t) {
  return Float32Array.from(await gently(t.data()));
}

function gemm({ jit, numpy: np }, { layout }, inputs) {
  const [a, b] = [inputs.get("a"), inputs.get("b")];
  const product = jit((a, b) =>
    np.matmul(
      layout === "TN" ? np.matrixTranspose(a) : a,
      layout === "NT" ? np.matrixTranspose(b) : b,
    ),
  );
  const run = () => product(a.ref, b.ref);
  return { run, results: async () => [await read(run())] };
}

function lora({ jit, valueAndGrad, numpy: np }, { scale }, inputs) {
  const [x, W, A, B, dy] = ["x", "W", "A", "B", "dy"].map((name) => inputs.get(name));
  const times = (x, W) => np.matmul(x, np.matrixTranspose(W));
  const value = (x, A, B, W, dy) => {
    const low = times(times(x.ref, A), B).mul(scale);
    return np.sum(times(x, W).add(low).mul(dy));
  };
  const both = jit(valueAndGrad(value, { argnums: [0, 1, 2] }));
  const run = () => both(x.ref, A.ref, B.ref, W.ref, dy.ref);
  const results = async () => {
    const [sum, gradients] = run();
    sum.dispose();
    return Promise.all(gradients.map(read));
  };
  return { run, results };
}

function gpt(jax, work, inputs) {
  const { jit, valueAndGrad, numpy: np, nn } = jax;
  const { sizes, learningRate, weightDecay } = work;
  const { r, vocabulary } = sizes;
  const names = [...inputs.keys()].filter((name) => !["ids", "targets"].includes(name));
  const isTrained = (name) => (r > 0 ? /\.[AB]$/.test(name) : true);
  const pick = (wanted, make) =>
    Object.fromEntries(names.filter((n) => isTrained(n) === wanted).map((n) => [n, make(n)]));
  const oneHot = (name) => nn.oneHot(inputs.get(name).ref.reshape([-1]), vocabulary);
  const [ids, targets] = [oneHot("ids"), oneHot("targets")];
  const frozen = pick(false, (n) => inputs.get(n).ref);
  const zeros = () => pick(true, (n) => np.zeros(inputs.get(n).shape));
  let state = { p: pick(true, (n) => inputs.get(n).ref), m: zeros(), v: zeros() };
  const lossOf = (p, frozen, ids, targets) => loss(jax, work, { ...frozen, ...p }, ids, targets);
  const step = jit(({ p, m, v }, frozen, ids, targets, c1, c2) => {
    const [value, g] = valueAndGrad(lossOf)(jax.tree.ref(p), frozen, ids, targets);
    const next = { p: {}, m: {}, v: {} };
    for (const n of Object.keys(p)) {
      const newM = m[n].mul(0.9).add(g[n].ref.mul(0.1));
      const newV = v[n].mul(0.999).add(g[n].ref.mul(g[n]).mul(0.001));
      const root = np.sqrt(newV.ref).div(np.sqrt(c2.ref)).add(1e-8);
      const move = newM.ref.div(root).mul(learningRate).div(c1.ref);
      next.p[n] = p[n].mul(1 - learningRate * weightDecay).sub(move);
      next.m[n] = newM;
      next.v[n] = newV;
    }
    c1.dispose();
    c2.dispose();
    return [value, next];
  });
  let steps = 0;
  const run = () => {
    steps += 1;
    const c = [0.9, 0.999].map((beta) => np.array(1 - beta ** steps));
    const [value, next] = step(state, jax.tree.ref(frozen), ids.ref, targets.ref, ...c);
    state = next;
    return value;
  };
  const results = async () => {
    const losses = [];
    for (let i = 0; i < 2; i++) losses.push((await read(run()))[0]);
    return [Float32Array.from(losses)];
  };
  const dispose = () => jax.tree.dispose([state, frozen, ids, targets]);
  return { run, results, state: () => state, dispose };
}

function loss({ numpy: np, nn }, { sizes, scale }, weights, ids, targets) {
  const { layers, width, heads, context: T, batch } = sizes;
  const get = (name) => weights[name].ref;
  const times = (x, W) => np.matmul(x, np.matrixTranspose(W));
  const linear = (name, x) => {
    const y = np.matmul(x.ref, get(`${name}.weight`)).add(get(`${name}.bias`));
    if (!weights[`${name}.A`]) {
      x.dispose();
      return y;
    }
    return y.add(times(times(x, get(`${name}.A`)), get(`${name}.B`)).mul(scale));
  };
  const norm = (name, x) => {
    const centered = x.ref.sub(np.mean(x, -1, { keepdims: true }));
    const variance = np.mean(centered.ref.mul(centered.ref), -1, { keepdims: true });
    const scaled = centered.div(np.sqrt(variance.add(1e-5)));
    return scaled.mul(get(`${name}.weight`)).add(get(`${name}.bias`));
  };
  const gelu = (x) => {
    const cubed = x.ref.mul(x.ref).mul(x.ref);
    const inner = x.ref.add(cubed.mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
    return x.mul(0.5).mul(np.tanh(inner).add(1));
  };
  const mask = np
    .tril(np.ones([T, T]))
    .sub(1)
    .mul(1e30);
  const attention = (name, x) => {
    const parts = np.split(linear(`${name}.c_attn`, x), 3, 1);
    const [q, k, v] = parts.map((t) =>
      np.transpose(t.reshape([batch, T, heads, width / heads]), [0, 2, 1, 3]),
    );
    const scores = times(q, k)
      .mul(Math.sqrt(heads / width))
      .add(mask.ref);
    const y = np.matmul(nn.softmax(scores, -1), v);
    return linear(`${name}.c_proj`, np.transpose(y, [0, 2, 1, 3]).reshape([batch * T, width]));
  };
  let x = np.matmul(ids, get("wte.weight")).reshape([batch, T, width]);
  x = x.add(get("wpe.weight")).reshape([batch * T, width]);
  for (let i = 0; i < layers; i++) {
    x = x.ref.add(attention(`h.${i}.attn`, norm(`h.${i}.ln_1`, x)));
    const inner = gelu(linear(`h.${i}.mlp.c_fc`, norm(`h.${i}.ln_2`, x.ref)));
    x = x.add(linear(`h.${i}.mlp.c_proj`, inner));
  }
  const logits = times(norm("ln_f", x), get("wte.weight"));
  mask.dispose();
  const value = np.mean(np.sum(nn.logSoftmax(logits, -1).mul(targets), 1)).mul(-1);
  for (const t of Object.values(weights)) t.dispose();
  return value;
}
