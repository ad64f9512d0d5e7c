// What JavaScript costs: a chain of tiny ops, called one by one and replayed. Of 1,000 ops, milliseconds
// of a run are microseconds of an op.
import { add } from "../src/autograd/ops/index.ts";
import { capture } from "../src/tensor/capture.ts";
import { zeros } from "../src/tensor/create.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { type BenchCase, bench } from "./harness.ts";

const OPS = 1000;

/** 1 is added to 256 numbers, again and again. */
function chain(x: Tensor): Tensor {
  let y = x;
  for (let i = 0; i < OPS; i++) {
    const next = add(y, 1);
    if (y !== x) y.dispose();
    y = next;
  }
  return y;
}

function chainCase(name: string, prepare: (fn: () => Tensor) => () => Tensor): BenchCase {
  return {
    name: `${OPS} dependent adds of 256, ${name}`,
    setup: () => {
      const x = zeros([256]);
      const run = prepare(() => chain(x));
      const verify = async () => {
        for (let call = 0; call < 3; call++) {
          const y = await run().data();
          if (y.some((value) => value !== OPS)) throw new Error(`y should be ${OPS}, is ${y[0]}`);
        }
      };
      return { run, verify };
    },
  };
}

bench("dispatch", [chainCase("eager", (fn) => fn), chainCase("replayed", capture)]);
