import { gelu } from "../src/autograd/ops/gelu.ts";
import { randn } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";

bench("gelu", [
  {
    name: "f32 [1024, 1024] forward",
    setup: () => {
      const x = randn([1024, 1024]);
      return { run: () => gelu(x), bytes: 2 * x.bytes };
    },
  },
]);
