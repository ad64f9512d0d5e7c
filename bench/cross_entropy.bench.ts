import { crossEntropy } from "../src/autograd/ops/index.ts";
import { randn, tensor } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

bench("cross_entropy", [
  {
    name: "f32 [1024, 8192] forward",
    setup: () => {
      const logits = randn([1024, 8192]);
      const targets = tensor(Int32Array.from({ length: 1024 }, (_, i) => (i * 37) % 8192));
      const run = () => crossEntropy(logits, targets);
      return { run, bytes: 4 * logits.size, verify: () => looksAlive(run()) };
    },
  },
]);
