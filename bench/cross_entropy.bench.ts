import { backward } from "../src/autograd/backward.ts";
import { crossEntropy } from "../src/autograd/ops/index.ts";
import { parameter, randn, tensor } from "../src/tensor/create.ts";
import * as reference from "../test/reference/cross_entropy.ts";
import { bench } from "./harness.ts";

const [N, V] = [1024, 8192];
const classes = Int32Array.from({ length: N }, (_, i) => (i * 37) % V);

/** Logits, targets, and a check of the loss against float64. */
function inputs() {
  const [logits, targets] = [randn([N, V]), tensor(classes)];
  const verify = async () => {
    const got = await crossEntropy(logits, targets).item();
    const expected = reference.crossEntropy(await logits.data(), [N, V], [...classes])[0]!;
    if (!(Math.abs(got - expected) < 1e-4)) throw new Error(`${got} is not ${expected}`);
  };
  return { logits, targets, verify };
}

bench("cross_entropy", [
  {
    name: `f32 [${N},${V}] forward`,
    setup: () => {
      const { logits, targets, verify } = inputs();
      return { run: () => crossEntropy(logits, targets), bytes: logits.bytes, verify };
    },
  },
  {
    name: `f32 [${N},${V}] forward and backward`,
    setup: () => {
      const { logits, targets, verify } = inputs();
      const x = parameter(logits);
      const run = () => {
        backward(crossEntropy(x, targets));
        x.grad?.dispose();
        x.grad = null;
      };
      return { run, bytes: 3 * logits.bytes, verify };
    },
  },
]);
