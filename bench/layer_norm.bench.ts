import { layerNorm } from "../src/autograd/ops/index.ts";
import { ones, randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const forward = (x: Tensor): Tensor => layerNorm(x, ones([1024]), ones([1024]));

bench("layer_norm", [
  {
    name: "f32 [4096, 1024] forward",
    setup: () => {
      const x = randn([4096, 1024]);
      return { run: () => forward(x), bytes: 8 * x.size, verify: () => looksAlive(forward(x)) };
    },
  },
]);
