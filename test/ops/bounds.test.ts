// K6 and K7 for every op, forward and backward: nothing is written behind a result, what lies behind an input
// does not leak into one, and two runs give the same bits.
import { equal, ok } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import * as ops from "../../src/autograd/ops/index.ts";
import type { Block } from "../../src/gpu/pool.ts";
import { setKernelPath } from "../../src/kernels/path.ts";
import { ropeTables } from "../../src/kernels/rope.ts";
import { parameter, tensor } from "../../src/tensor/create.ts";
import { manualSeed } from "../../src/tensor/philox.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../../src/tensor/shape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, randomValues, runTests, theGpu } from "../gpu.ts";

/** What stands where nothing may be written or read; as f32 a NaN. */
const CANARY = 0x7fc0dead;
const WORDS_OF_16_BYTES = 4;

/** Shapes of the inputs as text: `3,5 5`. */
type Case = [name: string, shapes: string, run: (...x: Tensor[]) => Tensor];

const ids = (values: number[], shape?: Shape) => tensor(Int32Array.from(values), shape);
const lora = (options: object) => (x: Tensor, w: Tensor, a: Tensor, b: Tensor) =>
  ops.loraLinear(x, w, null, a, b, { scale: 2, ...options });

const CASES: Case[] = [
  ["add", "3,5 5", ops.add],
  ["mul", "3,1 7", ops.mul],
  ["div", "3,7 7", (a, b) => ops.div(a, ops.add(ops.square(b), 1))],
  ["maximum", "13 13", ops.maximum],
  ["pow", "11", (x) => ops.pow(x, 3)],
  ["where", "3,7 7", (a, b) => ops.where(ops.lt(a, 0), a, b)],
  ["exp", "17", ops.exp],
  ["gelu", "3,7", (x) => ops.gelu(x, "tanh")],
  ["silu", "9", ops.silu],
  ["swiglu", "5,3 5,3", ops.swiglu],
  ["sum", "5,7,3", (x) => ops.sum(x, [0, 2])],
  ["max", "5,7", (x) => ops.max(x, 0)],
  ["variance", "5,67", (x) => ops.variance(x, 1)],
  ["permute", "3,5,2", (x) => ops.permute(x, [2, 0, 1])],
  ["slice", "3,5", (x) => ops.slice(x, 1, 1, 4)],
  ["concat", "3,5 3,2", (a, b) => ops.concat([a, b], 1)],
  ["broadcastTo", "3,1", (x) => ops.broadcastTo(x, [2, 3, 5])],
  ["gather", "5,3", (x) => ops.gather(x, 0, ids([4, 0, 2], [1, 3]))],
  ["embedding", "7,5", (w) => ops.embedding(w, ids([6, 1, 6]))],
  ["softmax", "3,7", (x) => ops.softmax(x)],
  ["logSoftmax", "7,3", (x) => ops.logSoftmax(x, 0)],
  ["crossEntropy", "5,13", (x) => ops.crossEntropy(x, ids([12, 0, -100, 3, 4]))],
  [
    "linearCrossEntropy",
    "5,7 13,7",
    (x, w) => ops.linearCrossEntropy(x, w, null, ids([12, 0, -100, 3, 4])),
  ],
  ["layerNorm", "3,7 7 7", (x, w, b) => ops.layerNorm(x, w, b)],
  ["rmsNorm", "3,7 7", (x, w) => ops.rmsNorm(x, w)],
  ["layerNormAdd", "3,7 3,7 7 7", (x, r, w, b) => ops.concat(ops.layerNormAdd(x, r, w, b))],
  ["rmsNormAdd", "3,7 3,7 7", (x, r, w) => ops.concat(ops.rmsNormAdd(x, r, w))],
  [
    "rope",
    "1,3,2,6",
    (x) => {
      const { cos, sin } = ropeTables(3, 6);
      return ops.rope(x, cos, sin);
    },
  ],
  ["attention", "2,5,4,6 2,5,2,6 2,5,2,6", (q, k, v) => ops.attention(q, k, v)],
  [
    "attention of packed rows",
    "2,21,4,6 2,21,2,6 2,21,2,6",
    (q, k, v) => {
      const starts = tensor(
        Int32Array.from({ length: 42 }, (_, i) => 5 * Math.floor((i % 21) / 5)),
      );
      const options = { starts: ops.reshape(starts, [2, 21]), window: 3, softcap: 4 };
      return ops.attention(q, k, v, options);
    },
  ],
  ["attention of one row", "1,1,2,8 1,9,2,8 1,9,2,8", (q, k, v) => ops.attention(q, k, v)],
  ["dropout", "3,7", (x) => ops.dropout(x, 0.4)],
  ["matmul", "5,7 7,9", (a, b) => ops.matmul(a, b)],
  ["matmul of whole words", "12,20 20,8", (a, b) => ops.matmul(a, b)],
  ["matmul TT", "7,5 9,7", (a, b) => ops.matmul(a, b, { transposeA: true, transposeB: true })],
  ["linear", "5,7 9,7 9", (x, w, b) => ops.linear(x, w, b)],
  ["loraLinear", "5,7 9,7 3,7 9,3", lora({})],
  ["loraLinear, dropout", "33,40 28,40 4,40 28,4", lora({ dropout: 0.3 })],
];

/** Until `end`, every buffer begins full of canaries, and none is used twice. */
function poisonPool(): { end: () => void } {
  const { pool, stream } = theGpu();
  const used: Block[] = [];
  const acquire = pool.acquire.bind(pool);
  pool.acquire = (op, bytes) => {
    const block = acquire(op, bytes);
    stream.write(block, 0, new Uint8Array(new Uint32Array(block.bytes / 4).fill(CANARY).buffer));
    return block;
  };
  pool.release = (block) => void used.push(block);
  const end = () => {
    for (const name of ["acquire", "release"]) Reflect.deleteProperty(pool, name);
    for (const block of used) pool.release(block);
  };
  return { end };
}

/** Throws where anything stands behind the last whole word of 16 bytes of a fresh tensor. */
async function checkBehind(what: string, t: Tensor): Promise<void> {
  const { block, byteOffset } = t.storage;
  const whole = new Uint32Array(await theGpu().stream.read(block, 0, block.bytes));
  const end = Math.ceil((byteOffset + t.bytes) / 16) * WORDS_OF_16_BYTES;
  for (let i = end; i < whole.length; i++) {
    ok(whole[i] === CANARY, `${what}: word ${i} behind ${t} was written`);
  }
}

/** The bits of the result and of every gradient. */
async function outcome(c: Case, poisoned: boolean): Promise<Uint8Array[]> {
  const poison = poisoned ? poisonPool() : null;
  const bits = await bitsOf(c, poisoned);
  poison?.end();
  return bits;
}

async function bitsOf([name, shapes, run]: Case, poisoned: boolean): Promise<Uint8Array[]> {
  using _ = scope();
  manualSeed(3);
  const inputs = shapes.split(" ").map((text, i) => {
    const shape = text.split(",").map(Number);
    return parameter(tensor(randomValues(sizeOf(shape), i + 1), shape));
  });
  const y = run(...inputs);
  backward(y, { gradient: tensor(randomValues(y.size, 9), y.shape) });
  const made = [y, ...inputs.map((x) => x.grad!)];
  const bits: Uint8Array[] = [];
  for (const t of made) {
    bits.push(await t.rawBytes());
    if (poisoned) await checkBehind(name, t);
  }
  for (const x of inputs) {
    x.grad!.dispose();
    x.dispose();
  }
  return bits;
}

for (const path of ["auto", "plain"] as const) {
  // Only products have kernels to choose from; matmul.test.ts looks behind the results of each of them.
  const cases = CASES.filter(([name]) => path === "auto" || /matmul|linear/i.test(name));
  gpuTest(
    `K6 K7 ${path} kernels: no write out of bounds, no leak, the same bits twice`,
    async () => {
      setKernelPath(path);
      for (const c of cases) {
        const first = await outcome(c, false);
        equal(await outcome(c, false), first, `${c[0]}: a second run`);
        equal(await outcome(c, true), first, `${c[0]}: behind its inputs stands NaN`);
      }
      setKernelPath("auto");
    },
  );
}

runTests();
