import { dropout } from "../src/autograd/ops/index.ts";
import { randn } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bench } from "./harness.ts";
import { looksAlive } from "./verify.ts";

const forward = (x: Tensor): Tensor => dropout(x, 0.1);

bench("dropout", [
  {
    name: "f32 [4096, 1024] forward",
    setup: () => {
      const x = randn([4096, 1024]);
      return { run: () => forward(x), bytes: 8 * x.size, verify: () => looksAlive(forward(x)) };
    },
  },
]);
