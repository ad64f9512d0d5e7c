// Central differences check the gradients of every float64 reference. CPU only.
import { test } from "uvu";
import { equal, is, ok, throws } from "uvu/assert";
import { adamw } from "./adamw.ts";
import { type Numbers, sizeOf } from "./arrays.ts";
import { attention, attentionBackward } from "./attention.ts";
import { type BinaryName, binary, binaryBackward } from "./binary.ts";
import { clipGradNorm } from "./clip_grad_norm.ts";
import { crossEntropy, crossEntropyBackward } from "./cross_entropy.ts";
import { dropout, dropoutBackward, dropoutMask } from "./dropout.ts";
import { embedding, embeddingBackward } from "./embedding.ts";
import { erf, erfc } from "./erf.ts";
import { checkGradient } from "./finite.ts";
import { type Form, gelu, geluBackward } from "./gelu.ts";
import { layerNorm, layerNormBackward } from "./layer_norm.ts";
import {
  type HeadSizes,
  linearCrossEntropy,
  linearCrossEntropyBackward,
} from "./linear_cross_entropy.ts";
import { loraLinear, loraLinearBackward } from "./lora_linear.ts";
import { loraMerge } from "./lora_merge.ts";
import { matmul, matmulBackward } from "./matmul.ts";
import { philox4x32 } from "./philox.ts";
import { reduce, reduceBackward } from "./reduce.ts";
import { rmsNorm, rmsNormBackward } from "./rms_norm.ts";
import { rope, ropeBackward } from "./rope.ts";
import { sgd } from "./sgd.ts";
import { silu, siluBackward } from "./silu.ts";
import { logSoftmax, logSoftmaxBackward, softmax, softmaxBackward } from "./softmax.ts";
import { swiglu, swigluBackward } from "./swiglu.ts";
import { threefry4x32, type Words } from "./threefry.ts";
import { UNARY_NAMES, type UnaryName, unary, unaryBackward } from "./unary.ts";

/** Deterministic numbers in [low, high). */
function numbers(n: number, seed: number, low = -1, high = 1): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: n }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return low + ((high - low) * state) / 2 ** 32;
  });
}

function close(got: Numbers, expected: Numbers, bound = 1e-12): void {
  is(got.length, expected.length);
  for (let i = 0; i < got.length; i++) {
    ok(Math.abs(got[i]! - expected[i]!) <= bound, `[${i}]: ${got[i]} is not ${expected[i]}`);
  }
}

test("erf and erfc against values from tables", () => {
  close(
    [erf(0.5), erf(1), erf(-1), erf(2), erf(3)],
    [
      0.5204998778130465, 0.8427007929497149, -0.8427007929497149, 0.9953222650189527,
      0.9999779095030014,
    ],
    2e-15,
  );
  ok(Math.abs(erfc(5) / 1.5374597944280349e-12 - 1) < 1e-13);
  ok(Math.abs(erfc(2) / 4.677734981047266e-3 - 1) < 1e-13);
  ok(Math.abs(erfc(10) / 2.088487583762545e-45 - 1) < 1e-13);
  // Series and continued fraction meet.
  close([erf(2 - 1e-13)], [erf(2)], 1e-13);
  is(erf(Infinity), 1);
  is(erf(0), 0);
});

test("gelu, silu, swiglu", () => {
  const x = numbers(15, 1, -4, 4);
  const dy = numbers(15, 2);
  const up = numbers(15, 3);
  for (const form of ["none", "tanh"] as Form[]) {
    checkGradient(`gelu ${form}`, (v) => gelu(v, form), x, dy, geluBackward(dy, x, form));
  }
  close(gelu([1, -1], "none"), [0.8413447460685429, -0.15865525393145707], 1e-15);
  checkGradient("silu", silu, x, dy, siluBackward(dy, x));
  const [dGate, dUp] = swigluBackward(dy, x, up);
  checkGradient("swiglu gate", (v) => swiglu(v, up), x, dy, dGate);
  checkGradient("swiglu up", (v) => swiglu(x, v), up, dy, dUp);
});

test("unary", () => {
  const positive: UnaryName[] = ["log", "sqrt", "rsqrt", "reciprocal", "log1p"];
  for (const name of UNARY_NAMES) {
    const x = positive.includes(name) ? numbers(9, 4, 0.3, 3) : numbers(9, 4, -3, 3);
    const dy = numbers(9, 5);
    checkGradient(name, (v) => unary(name, v), x, dy, unaryBackward(name, dy, x));
  }
  close(unary("round", [0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6]), [0, 2, 2, 0, -2, 2, -3]);
  close(unary("softplus", [0, 1000, -1000]), [Math.log(2), 1000, 0]);
});

test("binary, with broadcasting", () => {
  const shapes: [number[], number[]][] = [
    [
      [2, 3],
      [2, 3],
    ],
    [
      [2, 1, 3],
      [4, 1],
    ],
    [[], [2, 2]],
    [[3], [2, 3]],
  ];
  const names: BinaryName[] = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"];
  for (const name of names) {
    for (const [aShape, bShape] of shapes) {
      const a = numbers(sizeOf(aShape), 6, 0.3, 2);
      const b = numbers(sizeOf(bShape), 7, 0.3, 2);
      const y = binary(name, a, aShape, b, bShape);
      const dy = numbers(y.data.length, 8);
      const [da, db] = binaryBackward(name, dy, a, aShape, b, bShape);
      const what = `${name} [${aShape}] [${bShape}]`;
      checkGradient(`${what} a`, (v) => binary(name, v, aShape, b, bShape).data, a, dy, da);
      checkGradient(`${what} b`, (v) => binary(name, a, aShape, v, bShape).data, b, dy, db);
    }
  }
  is(`${binary("add", [1, 2], [2, 1], [10, 20], [2]).data}`, "11,21,12,22");
  is(`${binary("le", [1, 2, 3], [3], [2], []).data}`, "1,1,0");
  // Ties share; the derivative of a constant power is 0 at 0.
  is(`${binaryBackward("maximum", [1], [2], [1], [2], [1])}`, "0.5,0.5");
  is(`${binaryBackward("pow", [1, 1], [0, 0], [2], [2, 0], [2])}`, "0,0,0,0");
});

test("reduce", () => {
  const shape = [2, 3, 4];
  const x = numbers(24, 9);
  for (const name of ["sum", "mean", "max", "min", "var"] as const) {
    for (const axes of [undefined, 0, -1, [0, 2], [1], [0, 1, 2]]) {
      for (const correction of [0, 1]) {
        const f = (v: Numbers) => reduce(name, v, shape, axes, { correction }).data;
        const dy = numbers(f(x).length, 10);
        const dx = reduceBackward(name, dy, x, shape, axes, { correction });
        checkGradient(`${name} [${axes}]`, f, x, dy, dx);
      }
    }
  }
  is(`${reduce("sum", x, shape, [0, 2]).shape}`, "3");
  is(`${reduce("sum", x, shape, -1, { keepDims: true }).shape}`, "2,3,1");
  is(`${reduce("sum", x, shape).shape}`, "");
  is(`${reduce("argmax", [1, 5, 5, 7, 0, 7], [2, 3], 1).data}`, "1,0");
  is(`${reduce("argmax", [1, 5, 5, 7, 0, 7], [2, 3]).data}`, "3");
  is(`${reduceBackward("max", [6], [2, 1, 2], [3])}`, "3,0,3");
  is(`${reduce("sum", [], [0, 2], 0).data}`, "0,0");
});

test("matmul, with transposes and broadcast batches", () => {
  const cases: [number[], number[]][] = [
    [
      [2, 3],
      [3, 4],
    ],
    [
      [2, 2, 3],
      [3, 2],
    ],
    [
      [2, 1, 2, 3],
      [3, 3, 2],
    ],
  ];
  for (const [aShape, bShape] of cases) {
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        const flip = (s: number[], on: boolean) =>
          on ? [...s.slice(0, -2), s.at(-1)!, s.at(-2)!] : s;
        const [as, bs] = [flip(aShape, transposeA), flip(bShape, transposeB)];
        const t = { transposeA, transposeB };
        const a = numbers(sizeOf(as), 11);
        const b = numbers(sizeOf(bs), 12);
        const dy = numbers(matmul(a, as, b, bs, t).data.length, 13);
        const [da, db] = matmulBackward(dy, a, as, b, bs, t);
        checkGradient("matmul a", (v) => matmul(v, as, b, bs, t).data, a, dy, da);
        checkGradient("matmul b", (v) => matmul(a, as, v, bs, t).data, b, dy, db);
      }
    }
  }
  const a = [1, 2, 3, 4];
  is(`${matmul(a, [2, 2], [5, 6, 7, 8], [2, 2]).data}`, "19,22,43,50");
  is(`${matmul(a, [2, 2], [5, 6, 7, 8], [2, 2], { transposeA: true }).data}`, "26,30,38,44");
  is(`${matmul(a, [2, 2], [5, 6, 7, 8], [2, 2], { transposeB: true }).data}`, "17,23,39,53");
});

test("softmax and logSoftmax", () => {
  const shape = [2, 3, 4];
  const x = numbers(24, 14, -3, 3);
  const dy = numbers(24, 15);
  for (const axis of [-1, 0, 1]) {
    const dx = softmaxBackward(dy, x, shape, axis);
    checkGradient(`softmax ${axis}`, (v) => softmax(v, shape, axis), x, dy, dx);
    const dLog = logSoftmaxBackward(dy, x, shape, axis);
    checkGradient(`logSoftmax ${axis}`, (v) => logSoftmax(v, shape, axis), x, dy, dLog);
  }
  close(softmax([1000, 1000], [2]), [0.5, 0.5]);
});

test("cross_entropy, with ignored rows and label smoothing", () => {
  const shape = [4, 5] as const;
  const x = numbers(20, 16, -2, 2);
  const targets = [3, -100, 0, 4];
  for (const options of [{}, { labelSmoothing: 0.1 }, { ignoreIndex: 0 }]) {
    const ids = "ignoreIndex" in options ? [3, 1, 0, 4] : targets;
    const dx = crossEntropyBackward([1.5], x, shape, ids, options);
    const f = (v: Numbers) => crossEntropy(v, shape, ids, options);
    checkGradient("cross_entropy", f, x, [1.5], dx);
  }
  close(crossEntropy([0, 0, 0, 0], [1, 4], [2]), [Math.log(4)]);
  is(crossEntropy(x, shape, [-100, -100, -100, -100])[0], 0);
});

test("linear_cross_entropy, with ignored rows and capped logits", () => {
  for (const cap of [0, 1.5]) checkHead({ N: 4, d: 3, V: 5, cap });
  close(linearCrossEntropy([1], [0, 0, 0, 0], null, [2], { N: 1, d: 1, V: 4 }), [Math.log(4)]);
});

function checkHead(sizes: HeadSizes): void {
  const [x, W, bias] = [numbers(12, 20, -2, 2), numbers(15, 21), numbers(5, 22)];
  const targets = [3, -100, 0, 4];
  const grads = linearCrossEntropyBackward([1.5], x, W, bias, targets, sizes);
  const inX = (v: Numbers) => linearCrossEntropy(v, W, bias, targets, sizes);
  const inW = (v: Numbers) => linearCrossEntropy(x, v, bias, targets, sizes);
  const inBias = (v: Numbers) => linearCrossEntropy(x, W, v, targets, sizes);
  checkGradient("linear_cross_entropy x", inX, x, [1.5], grads.dx);
  checkGradient("linear_cross_entropy W", inW, W, [1.5], grads.dW);
  checkGradient("linear_cross_entropy bias", inBias, bias, [1.5], grads.dbias);
}

test("layer_norm and rms_norm", () => {
  const shape = [3, 5];
  const x = numbers(15, 17);
  const w = numbers(5, 18);
  const b = numbers(5, 19);
  const dy = numbers(15, 20);
  const [dx, dw, db] = layerNormBackward(dy, x, shape, w);
  checkGradient("layer_norm x", (v) => layerNorm(v, shape, w, b), x, dy, dx);
  checkGradient("layer_norm weight", (v) => layerNorm(x, shape, v, b), w, dy, dw);
  checkGradient("layer_norm bias", (v) => layerNorm(x, shape, w, v), b, dy, db);
  const [plain] = layerNormBackward(dy, x, shape);
  checkGradient("layer_norm plain", (v) => layerNorm(v, shape), x, dy, plain);
  const [rx, rw] = rmsNormBackward(dy, x, shape, w);
  checkGradient("rms_norm x", (v) => rmsNorm(v, shape, w), x, dy, rx);
  checkGradient("rms_norm weight", (v) => rmsNorm(x, shape, v), w, dy, rw);
  checkGradient(
    "rms_norm plain",
    (v) => rmsNorm(v, shape),
    x,
    dy,
    rmsNormBackward(dy, x, shape)[0],
  );
});

test("rope", () => {
  const shape = [2, 3, 2, 4] as const;
  const x = numbers(48, 21);
  const dy = numbers(48, 22);
  const options = { offset: 5, theta: 100 };
  const dx = ropeBackward(dy, shape, options);
  checkGradient("rope", (v) => rope(v, shape, options), x, dy, dx);
  // Position 0 stays; (1, 0) at position 1 turns by one radian.
  close(rope([1, 0, 1, 0], [1, 2, 1, 2]), [1, 0, Math.cos(1), Math.sin(1)]);
});

test("attention: causal, grouped heads, a cache's offset, a window, a softcap, packed rows", () => {
  const cases = [
    { T: 4, S: 4, H: 2, Hkv: 2, options: {} },
    { T: 3, S: 5, H: 4, Hkv: 2, options: {} },
    { T: 4, S: 4, H: 3, Hkv: 1, options: { window: 2 } },
    { T: 2, S: 3, H: 2, Hkv: 1, options: { causal: false, scale: 0.3 } },
    { T: 4, S: 4, H: 2, Hkv: 1, options: { softcap: 0.7, starts: [0, 0, 2, 3, 0, 1, 9, 3] } },
    { T: 3, S: 5, H: 2, Hkv: 2, options: { causal: false, starts: [1, 0], ends: [4, 5] } },
  ];
  for (const { T, S, H, Hkv, options } of cases) {
    const qs = [2, T, H, 3] as const;
    const ks = [2, S, Hkv, 3] as const;
    const [q, dy] = [numbers(sizeOf(qs), 23, -2, 2), numbers(sizeOf(qs), 24)];
    const [k, v] = [numbers(sizeOf(ks), 25, -2, 2), numbers(sizeOf(ks), 26)];
    const [dq, dk, dv] = attentionBackward(dy, q, qs, k, v, ks, options);
    checkGradient("attention q", (x) => attention(x, qs, k, v, ks, options), q, dy, dq);
    checkGradient("attention k", (x) => attention(q, qs, x, v, ks, options), k, dy, dk);
    checkGradient("attention v", (x) => attention(q, qs, k, x, ks, options), v, dy, dv);
  }
  // The first causal query sees the first key alone.
  const one = [1, 2, 1, 1] as const;
  is(attention([1, 1], one, [3, 4], [7, 9], one)[0], 7);
});

test("embedding", () => {
  const weight = numbers(12, 27);
  const ids = [2, 0, 2, 3];
  const dy = numbers(12, 28);
  const dWeight = embeddingBackward(dy, [4, 3], ids);
  checkGradient("embedding", (v) => embedding(v, [4, 3], ids), weight, dy, dWeight);
});

const hex = (words: number[]) => words.map((w) => w.toString(16).padStart(8, "0")).join(" ");
const ones = 0xffffffff;

test("threefry: Random123's known answers, of 13 and 20 rounds", () => {
  const answers = (...args: [counter: Words, key: Words]) =>
    [13, 20].map((rounds) => hex(threefry4x32(...args, rounds)));
  equal(answers([0, 0, 0, 0], [0, 0, 0, 0]), [
    "531c7e4f 39491ee5 2c855a92 3d6abf9a",
    "9c6ca96a e17eae66 fc10ecd4 5256a7d8",
  ]);
  equal(answers([ones, ones, ones, ones], [ones, ones, ones, ones]), [
    "c4189358 1c9cc83a d5881c67 6a0a89e0",
    "2a881696 57012287 f6c7446e a16a6732",
  ]);
  const pi: Words = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
  equal(answers(pi, [0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89]), [
    "4aa71d8f 734738c2 431fc6a8 ae6debf1",
    "59cd1dbb b8879579 86b5d00c ac8b6d84",
  ]);
});

test("philox: Random123's known answers", () => {
  is(hex(philox4x32([0, 0, 0, 0], [0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  is(
    hex(philox4x32([ones, ones, ones, ones], [ones, ones])),
    "408f276d 41c83b0e a20bc7c6 6d5451fd",
  );
  is(
    hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
});

test("dropout", () => {
  const x = numbers(11, 29);
  const dy = numbers(11, 30);
  const key = [7, 3] as const;
  checkGradient("dropout", (v) => dropout(v, 0.4, key), x, dy, dropoutBackward(dy, 0.4, key));
  const kept = dropoutMask(4000, 0.25, key).filter((m) => m > 0).length;
  ok(Math.abs(kept / 4000 - 0.75) < 0.03, `kept ${kept} of 4000`);
  close(dropout(x, 0, key), x);
});

test("lora_linear and lora_merge", () => {
  const n = { N: 3, in: 4, out: 5, r: 2 };
  const x = numbers(12, 31);
  const W = numbers(20, 32);
  const bias = numbers(5, 33);
  const A = numbers(8, 34);
  const B = numbers(10, 35);
  const dy = numbers(15, 36);
  for (const mask of [null, dropoutMask(12, 0.5, [1, 2])]) {
    const [dx, dA, dB] = loraLinearBackward(dy, x, W, A, B, n, 1.7, mask);
    checkGradient("lora x", (v) => loraLinear(v, W, bias, A, B, n, 1.7, mask), x, dy, dx);
    checkGradient("lora A", (v) => loraLinear(x, W, bias, v, B, n, 1.7, mask), A, dy, dA);
    checkGradient("lora B", (v) => loraLinear(x, W, bias, A, v, n, 1.7, mask), B, dy, dB);
  }
  const merged = loraMerge(W, A, B, n, 1.7);
  const zero = new Float64Array(10);
  close(loraLinear(x, merged, bias, A, zero, n, 0), loraLinear(x, W, bias, A, B, n, 1.7));
  const turned = Float64Array.from({ length: 20 }, (_, i) => W[(i % 5) * 4 + Math.floor(i / 5)]!);
  const mergedTurned = loraMerge(turned, A, B, n, 1.7, true);
  close(
    Float64Array.from({ length: 20 }, (_, i) => mergedTurned[(i % 4) * 5 + Math.floor(i / 4)]!),
    merged,
  );
});

test("adamw, sgd, clip_grad_norm", () => {
  // The first step of AdamW moves by lr against the sign, after decay.
  const first = adamw([1], [0.5], [0], [0], 1, { lr: 0.1, weightDecay: 0.01, eps: 0 });
  close(first.parameter, [1 * (1 - 0.001) - 0.1]);
  close([first.m[0]!, first.v[0]!], [0.05, 0.00025]);
  const s1 = sgd([1], [0.5], null, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 });
  close(s1.parameter, [1 - 0.06]);
  const s2 = sgd(s1.parameter, [0.5], s1.velocity, { lr: 0.1, momentum: 0.9, nesterov: true });
  // u = 0.9·0.6 + 0.5 = 1.04; the step is 0.5 + 0.9·1.04.
  close(s2.parameter, [0.94 - 0.1 * (0.5 + 0.936)]);
  const clipped = clipGradNorm([[3], [0, 4]], 1);
  is(clipped.norm, 5);
  close(clipped.gradients[0]!, [3 / (5 + 1e-6)]);
  close(clipGradNorm([[0.3]], 1).gradients[0]!, [0.3]);
});

test("a wrong gradient is caught", () => {
  const x = numbers(6, 40);
  const dy = numbers(6, 41);
  const right = siluBackward(dy, x);
  const wrong = (change: (g: number, i: number) => number) =>
    throws(() => checkGradient("silu", silu, x, dy, right.map(change)), /silu/);
  wrong((g) => -g);
  wrong((g) => g * 1.0001);
  wrong((g, i) => (i === 5 ? 0 : g));
  wrong((g, i) => (i === 0 ? Number.NaN : g));
  throws(() => checkGradient("silu", silu, x, dy, right.slice(1)), /5 gradients for 6/);
});

test.run();
