// Tensors that are gone, graphs that are used up, and sizes that no device holds.
import { equal, is } from "uvu/assert";
import "../../src/autograd/methods.ts";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import { kernel } from "../../src/kernels/kernel.ts";
import { arange, full, ones, parameter, rand, randn, tensor } from "../../src/tensor/create.ts";
import { scope } from "../../src/tensor/scope.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";
import { checkRefused, f32, i32, type Refused } from "../refused.ts";

const twice = kernel(
  "twice",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn twice_forward() { y[0] *= 2.0; }`,
);

gpuTest("a freed tensor, and one whose scope has closed", async () => {
  const freed = f32(2, 3);
  freed.dispose();
  const closed = (() => {
    using _ = scope();
    return f32(2, 3);
  })();
  const x = ones([2, 3]);
  const y = ops.mul(parameter(f32(2, 3)), 2);
  const gone = (op: string, call: () => unknown): Refused => {
    return [call, `DisposedError: ${op}: `, "must be alive, got a freed f32[2, 3]", "s.keep(x)"];
  };
  const unary = [
    "abs",
    "argmax",
    "detach",
    "exp",
    "gelu",
    "max",
    "mean",
    "softmax",
    "sum",
  ] as const;
  const reads = ["data", "rawBytes", "array", "print"] as const;
  for (const t of [freed, closed]) {
    checkRefused([
      ...[...unary, ...reads].map((name) => gone(name, () => t[name]())),
      gone("reshape", () => t.reshape([6])),
      gone("permute", () => t.permute([1, 0])),
      gone("slice", () => t.slice(0, 0, 1)),
      gone("cast", () => t.cast("f16")),
      gone("add", () => ops.add(x, t)),
      gone("matmul", () => ops.matmul(x, t, { transposeB: true })),
      gone("concat", () => ops.concat([x, t])),
      gone("where", () => ops.where(t, x, 0)),
      gone("layer_norm", () => ops.layerNorm(x, t, x)),
      gone("backward", () => backward(t)),
      gone("backward", () => backward(y, { gradient: t })),
      gone("parameter", () => parameter(t)),
      gone("clone", () => t.clone()),
      gone("view", () => t.view([6])),
      gone("twice_forward", () => twice.run("twice_forward", { tensors: { y: t }, groups: [1] })),
    ]);
  }
  const one = f32(1);
  one.dispose();
  throwsLike(() => one.item(), "DisposedError", "item: the tensor must be alive, got a freed");
  equal([...(await x.data())], [1, 1, 1, 1, 1, 1]);
});

gpuTest("backward: twice, of no scalar, without a graph, with a gradient that does not fit", () => {
  const x = parameter(ones([2]));
  const [y, plain, once] = [ops.mul(x, x), ones([1]), ops.sum(ops.mul(x, x))];
  const [short, whole] = [ones([1]), i32(2)];
  backward(once);
  const { grad } = x;
  const [a, b] = [{ gradient: short }, { gradient: whole }];
  checkRefused([
    [() => backward(y), "GradError: backward: the tensor must be a scalar, got [2]", "y.sum()"],
    [
      () => backward(once),
      "GradError: backward: the graph must be complete, got mul",
      "retainGraph",
    ],
    [() => backward(plain), "GradError: backward: the tensor must be the result of ops"],
    [() => backward(y, a), "ShapeError: backward: gradient must be [2], got [1]"],
    [() => backward(y, b), "DTypeError: backward: gradient must be f32, got i32"],
  ]);
  is(x.grad, grad);
  for (const t of [grad, x]) t?.dispose();
});

gpuTest(
  "backward over a graph of which a part is gone leaves every gradient as it was",
  async () => {
    const [x, y] = [parameter(ones([2])), parameter(ones([2]))];
    const shared = ops.mul(x, x);
    const [first, second] = [ops.sum(shared), ops.sum(ops.mul(shared, y))];
    backward(first);
    throwsLike(
      () => backward(second),
      "GradError",
      "backward: the graph must be complete, got mul",
    );
    is(y.grad, null, "y stands before the part that is gone");
    equal([...(await x.grad!.data())], [2, 2]);
    for (const t of [x.grad, x, y]) t?.dispose();
  },
);

gpuTest("larger than the device: refused before any memory is asked for", () => {
  const { maxBufferSize, maxStorageBufferBindingSize } = theGpu().limits;
  const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  const n = Math.min(2 ** 32 - 1, limit / 4 + 1);
  const [tall, wide, two] = [f32(2 ** 17, 1), f32(1, 2 ** 14), new Float32Array(2)];
  const tooLarge = (op: string, call: () => unknown): Refused => {
    return [call, `LimitError: ${op}: the tensor must be at most ${limit} bytes`, ", got "];
  };
  checkRefused([
    tooLarge("zeros", () => f32(n)),
    tooLarge("ones", () => ones([n])),
    tooLarge("full", () => full([n], 3)),
    tooLarge("rand", () => rand([n])),
    tooLarge("randn", () => randn([n])),
    tooLarge("arange", () => arange(n)),
    tooLarge("tensor", () => tensor(two, [n])),
    tooLarge("add", () => ops.add(tall, wide)),
    tooLarge("matmul", () => ops.matmul(tall, wide)),
    tooLarge("broadcast_to", () => ops.broadcastTo(tall, [2 ** 17, 2 ** 14])),
  ]);
});

runTests();
