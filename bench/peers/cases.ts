// What every library computes: products, a linear layer with a low-rank update, a training step of a small GPT-2.

/** One input, filled with normal numbers of this deviation around `mean`, or with whole numbers below `below`. */
export interface Input {
  name: string;
  shape: readonly number[];
  std?: number;
  mean?: number;
  below?: number;
}

export interface GptSizes {
  layers: number;
  width: number;
  heads: number;
  context: number;
  batch: number;
  vocabulary: number;
  /** Rank of the adapters on every linear layer; 0 trains the model itself. */
  r: number;
}

type Work =
  | { kind: "gemm"; layout: "NN" | "NT" | "TN" }
  | { kind: "lora"; scale: number }
  | { kind: "gpt"; scale: number; sizes: GptSizes; learningRate: number; weightDecay: number };

export type PeerCase = Work & {
  name: string;
  inputs: readonly Input[];
  flops: number;
  /** Largest error of a result, as a share of the root mean square of what it should be. */
  tolerance: number;
};

const gemm = (M: number, K: number, N: number, layout: "NN" | "NT" | "TN"): PeerCase => ({
  kind: "gemm",
  name: `gemm ${layout} ${M}×${K}×${N}`,
  layout,
  inputs: [
    { name: "a", shape: layout === "TN" ? [K, M] : [M, K] },
    { name: "b", shape: layout === "NT" ? [N, K] : [K, N] },
  ],
  flops: 2 * M * K * N,
  tolerance: 1e-4,
});

/** Forward, then the gradients of x, A and B; W is frozen. */
const lora = (N: number, K: number, M: number, r: number): PeerCase => ({
  kind: "lora",
  name: `lora_linear ${N}×${K}×${M} r ${r}`,
  scale: 2,
  inputs: [
    { name: "x", shape: [N, K] },
    { name: "W", shape: [M, K], std: 1 / Math.sqrt(K) },
    { name: "A", shape: [r, K], std: 1 / Math.sqrt(K) },
    { name: "B", shape: [M, r], std: 1 / Math.sqrt(r) },
    { name: "dy", shape: [N, M] },
  ],
  flops: 4 * N * K * M + 6 * N * r * (K + M),
  tolerance: 1e-3,
});

/** Every linear layer of one block: name, inputs, outputs. */
export const linears = (width: number) =>
  [
    ["attn.c_attn", width, 3 * width],
    ["attn.c_proj", width, width],
    ["mlp.c_fc", width, 4 * width],
    ["mlp.c_proj", 4 * width, width],
  ] as const;

/** Names are GPT-2's; weights of linear layers are [in, out]; adapters are `<layer>.A` [r, in] and `.B` [out, r]. */
function gptInputs(sizes: GptSizes): Input[] {
  const { layers, width, context, batch, vocabulary, r } = sizes;
  const norm = (name: string): Input[] => [
    { name: `${name}.weight`, shape: [width], std: 0.1, mean: 1 },
    { name: `${name}.bias`, shape: [width], std: 0.1 },
  ];
  const linear = (name: string, fanIn: number, fanOut: number): Input[] => [
    { name: `${name}.weight`, shape: [fanIn, fanOut], std: 0.05 },
    { name: `${name}.bias`, shape: [fanOut], std: 0.05 },
  ];
  const adapter = (name: string, fanIn: number, fanOut: number): Input[] => [
    { name: `${name}.A`, shape: [r, fanIn], std: 0.05 },
    { name: `${name}.B`, shape: [fanOut, r], std: 0.05 },
  ];
  const blocks = Array.from({ length: layers }, (_, i) => `h.${i}`);
  const inAll = (make: typeof linear) =>
    blocks.flatMap((b) =>
      linears(width).flatMap(([name, from, to]) => make(`${b}.${name}`, from, to)),
    );
  return [
    { name: "ids", shape: [batch, context], below: vocabulary },
    { name: "targets", shape: [batch, context], below: vocabulary },
    { name: "wte.weight", shape: [vocabulary, width], std: 0.05 },
    { name: "wpe.weight", shape: [context, width], std: 0.05 },
    ...blocks.flatMap((b) => [...norm(`${b}.ln_1`), ...norm(`${b}.ln_2`)]),
    ...inAll(linear),
    ...norm("ln_f"),
    ...(r > 0 ? inAll(adapter) : []),
  ];
}

/** One step of AdamW: forward, cross entropy, backward, update. The result is the loss before and after the first. */
function gpt(sizes: GptSizes): PeerCase {
  const { layers, width, context, batch, vocabulary, r } = sizes;
  const tokens = batch * context;
  const products = layers * 12 * width * width + vocabulary * width;
  const scores = (layers * 2 * context * width) / 2; // per token: causal, so half
  return {
    kind: "gpt",
    name: r > 0 ? `gpt step, LoRA r ${r}` : "gpt step, full",
    scale: 2,
    sizes,
    learningRate: 1e-3,
    weightDecay: 0.01,
    inputs: gptInputs(sizes),
    flops: tokens * (r > 0 ? 4 : 6) * (products + scores),
    tolerance: 1e-3,
  };
}

const SHAPES = [
  [512, 768, 768],
  [512, 768, 3072],
  [512, 3072, 768],
] as const;
const SMALL = { layers: 4, width: 256, heads: 4, context: 128, batch: 8, vocabulary: 512 };

export const CASES: readonly PeerCase[] = [
  ...SHAPES.flatMap(([M, K, N]) => (["NT", "NN", "TN"] as const).map((l) => gemm(M, K, N, l))),
  ...[8, 16, 64].map((r) => lora(512, 768, 768, r)),
  gpt({ ...SMALL, r: 0 }),
  gpt({ ...SMALL, r: 8 }),
];

/** All inputs of a case, one after the other, the same in every run. */
export function inputValues({ inputs }: PeerCase): Float32Array[] {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return inputs.map(({ shape, std = 1, mean = 0, below }) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      below ? Math.floor((uniform() * below) % below) : mean + std * normal(),
    ),
  );
}
