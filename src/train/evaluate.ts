// evaluate: mean loss on held-out text.
import { noGrad } from "../autograd/graph.ts";
import type { CausalLM } from "../nn/causal_lm.ts";
import { scope } from "../tensor/scope.ts";
import { checkCount, type Windows } from "./windows.ts";

/**
 * Mean cross-entropy in nats per token over windows without overlap, in evaluation mode.
 * @param windows  held-out text
 * @param options  `batch`: windows at once; `most`: how many windows at most, spread over the text
 * @throws ValueError where one of them is no positive integer
 */
export async function evaluate(
  model: CausalLM,
  windows: Windows,
  options: { batch?: number; most?: number } = {},
): Promise<number> {
  const { batch = 8, most = Infinity } = options;
  checkCount("evaluate", "batch", batch);
  if (most !== Infinity) checkCount("evaluate", "most", most);
  const wasTraining = model.training;
  model.eval();
  let sum = 0;
  let tokens = 0;
  try {
    for (const starts of windows.sequential(batch, most)) {
      using _ = scope();
      const { ids, targets } = windows.at(starts);
      const loss = await noGrad(() => model.loss(ids, targets)).item();
      sum += loss * targets.size;
      tokens += targets.size;
    }
  } finally {
    model.train(wasTraining);
  }
  return sum / tokens;
}
