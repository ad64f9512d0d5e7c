// Peak memory of a training step beside the sum that the formulas give: see bench/memory_model.ts.
import { is, ok } from "uvu/assert";
import {
  type Family,
  formulaBytes,
  type Method,
  STATED,
  trainingSetup,
} from "../../bench/memory_model.ts";
import { backward } from "../../src/autograd/backward.ts";
import type { MemoryReport } from "../../src/gpu/memory.ts";
import { clipGradNorm } from "../../src/nn/optim/index.ts";
import { tensor } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

/** Small sizes, for a software device; those of bench/memory.ts have the same shares. */
const SIZES = { ...STATED, width: 64, batch: 2, vocabulary: 128 };

/** The account of one step, and the sum of the formulas. Live bytes from before do not count. */
function stepOf(family: Family, method: Method): { report: MemoryReport; formula: number } {
  using _ = scope();
  const { model, optimizer } = trainingSetup(family, method, SIZES);
  const { batch, context, vocabulary } = SIZES;
  const ids = tensor(
    Int32Array.from({ length: batch * context }, (_, i) => (i * 7) % vocabulary),
    [batch, context],
  );
  theGpu().resetPeak();
  {
    using _step = scope();
    backward(model.loss(ids, ids));
    clipGradNorm(optimizer, 1);
    optimizer.step();
    optimizer.zeroGrad();
  }
  const report = theGpu().memory();
  const formula = formulaBytes(model, family, method, SIZES).total;
  optimizer.dispose();
  model.dispose();
  return { report, formula };
}

for (const family of ["gpt2", "llama"] as const) {
  gpuTest(
    `${family}: a step's peak is within 1.15 of the formulas, LoRA's below full fine-tuning's`,
    () => {
      const before = theGpu().stats().bytesLive;
      const lora = stepOf(family, "lora");
      const full = stepOf(family, "full");
      for (const [name, { report, formula }] of Object.entries({ lora, full })) {
        const ratio = (report.total.peak - before) / formula;
        ok(ratio > 0.95 && ratio < 1.15, `${name}: ${ratio}`);
        is(report.categories.activations.live, 0);
      }
      ok(lora.report.total.peak < full.report.total.peak);
      const { adapters, gradients, optimiser } = lora.report.categories;
      is(gradients.live, adapters.live, "gradients of adapters alone");
      ok(optimiser.live < 2.01 * adapters.live);
    },
  );
}

runTests();
