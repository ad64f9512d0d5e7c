// LoRA-FA: A stays as it began, and B's gradient is turned so that the update of B·A comes nearest to
// that of full training (Zhang et al. 2023, arXiv 2308.03303):  dB ← s⁻²·dB·(A·Aᵀ)⁻¹
import { noGrad } from "../autograd/graph.ts";
import type { AdamWNumbers } from "../kernels/adamw.ts";
import { matmulForward } from "../kernels/matmul.ts";
import { AdamW, type AdamWOptions, type GroupSettings } from "../nn/optim/index.ts";
import { tensor } from "../tensor/create.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Columns, columnsOf, dot, svd } from "./linalg.ts";
import type { Lora } from "./lora.ts";

export interface LoraFAOptions extends AdamWOptions {
  /** Name of the adapter. Default: the first active one. */
  adapter?: string;
}

/**
 * AdamW for an adapter whose A is frozen, in PEFT's order of operations: eps is not corrected for the
 * first steps, and decay comes after the step. Make one with `await LoraFA.create(lora, options)`.
 */
export class LoraFA extends AdamW {
  /** s⁻²·(A·Aᵀ + 10⁻⁸)⁻¹ [r, r] of each B. */
  private readonly turns: ReadonlyMap<Tensor, Tensor>;

  private constructor(params: Tensor[], turns: ReadonlyMap<Tensor, Tensor>, options: AdamWOptions) {
    super(params, { eps: 1e-6, weightDecay: 0, ...options });
    this.turns = turns;
  }

  /** Freezes the adapter's A's and reads them. */
  static async create(lora: Lora, { adapter, ...options }: LoraFAOptions = {}): Promise<LoraFA> {
    const name = adapter ?? lora.activeAdapters[0]!;
    const frozen = new Set<Tensor>();
    const turns = new Map<Tensor, Tensor>();
    for (const { adapters } of lora.layers.values()) {
      const update = adapters.get(name);
      if (!update || update.sizes.isEmbedding) continue;
      frozen.add(update.lora_A);
      const { r, sizes, scaling, lora_A, lora_B } = update;
      const turn = inverse(await lora_A.data(), r, sizes.in, scaling);
      turns.set(lora_B, tensor(turn, [r, r]).persist());
    }
    for (const A of frozen) A.requiresGrad = false;
    const trained = lora.parameters(name).filter((p) => !frozen.has(p));
    return new LoraFA(trained, turns, options);
  }

  override step(): void {
    using _ = scope();
    for (const [B, turn] of this.turns) {
      if (B.grad) B.grad = noGrad(() => matmulForward(B.grad!, turn)).persist();
    }
    super.step();
  }

  protected override numbers(settings: GroupSettings): AdamWNumbers {
    const numbers = super.numbers(settings);
    const { lr, weightDecay, eps, betas, step } = numbers;
    const decay = lr * weightDecay;
    const rate = lr * (1 - decay);
    return {
      ...numbers,
      lr: rate,
      weightDecay: rate > 0 ? decay / rate : 0,
      eps: eps / Math.sqrt(1 - betas[1] ** step),
    };
  }

  override dispose(): void {
    super.dispose();
    for (const turn of this.turns.values()) turn.dispose();
  }
}

/** s⁻²·(A·Aᵀ + 10⁻⁸)⁻¹, row-major; directions that A lacks count as 0. */
function inverse(values: ArrayLike<number>, r: number, inner: number, s: number): Float32Array {
  const A = columnsOf(values, r, inner);
  const rows: Columns = Array.from({ length: r }, (_, i) => Float64Array.from(A, (a) => a[i]!));
  const gram = rows.map((a, i) =>
    Float64Array.from(rows, (b, j) => dot(a, b) + (i === j ? 1e-8 : 0)),
  );
  const { U, S, V } = svd(gram);
  const least = S[0]! * r * 2 ** -52;
  return Float32Array.from({ length: r * r }, (_, at) => {
    const [i, j] = [Math.floor(at / r), at % r];
    let sum = 0;
    for (const [k, sigma] of S.entries()) if (sigma > least) sum += (V[k]![i]! * U[k]![j]!) / sigma;
    return sum / s ** 2;
  });
}
