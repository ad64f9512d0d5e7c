import { loraMergeInto } from "../src/kernels/lora_merge.ts";
import { randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

bench(
  "lora_merge",
  [8, 64].map((r) => ({
    name: `f32 [3072, 768], r ${r}`,
    setup: () => {
      const [W, A, B] = [randn([3072, 768]), randn([r, 768]), randn([3072, r])];
      const run = () => loraMergeInto(W, A, B, 1e-6);
      const verify = () => {
        run();
        return looksAlive(W);
      };
      return { run, flops: 2 * W.size * r, bytes: 8 * W.size, verify };
    },
  })),
);
