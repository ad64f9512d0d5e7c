// What JavaScript costs: a chain of tiny ops, called one by one and replayed, and the same while Dawn's four calls
// of a dispatch do nothing. Of 1,000 ops, milliseconds of a run are microseconds of an op.
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

/** A function's work in JavaScript alone: what it dispatches is not encoded. */
function withoutDawn<T>(fn: () => T): T {
  const { prototype } = GPUComputePassEncoder;
  const { setPipeline, setBindGroup, setImmediates, dispatchWorkgroups } = prototype;
  const nothing = () => undefined;
  const none = { setPipeline: nothing, setBindGroup: nothing, setImmediates: nothing };
  Object.assign(prototype, none, { dispatchWorkgroups: nothing });
  try {
    return fn();
  } finally {
    const calls = { setPipeline, setBindGroup, setImmediates, dispatchWorkgroups };
    Object.assign(prototype, calls);
  }
}

type Call = <T>(fn: () => T) => T;

/** @param call  how a timed run is called */
function chainCase(
  name: string,
  prepare: (fn: () => Tensor) => () => Tensor,
  call: Call = (fn) => fn(),
): BenchCase {
  return {
    name: `${OPS} adds of 256, ${name}`,
    setup: () => {
      const x = zeros([256]);
      const run = prepare(() => chain(x));
      const verify = async () => {
        for (let call = 0; call < 3; call++) {
          const y = await run().data();
          if (y.some((value) => value !== OPS)) throw new Error(`y should be ${OPS}, is ${y[0]}`);
        }
      };
      return { run: () => call(run), verify };
    },
  };
}

bench("dispatch", [
  chainCase("eager", (fn) => fn),
  chainCase("replayed", capture),
  chainCase("eager, without Dawn", (fn) => fn, withoutDawn),
  chainCase("replayed, without Dawn", capture, withoutDawn),
]);
