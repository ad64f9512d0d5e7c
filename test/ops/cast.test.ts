import { equal, is } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { cast } from "../../src/autograd/ops/cast.ts";
import { fromBytes, parameter, tensor, zeros } from "../../src/tensor/create.ts";
import type { DType } from "../../src/tensor/dtype.ts";
import { checkOp, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";

/** The 16-bit pattern nearest to x, ties to even, found by search: independent of any bit trick. */
function nearest(x: number, value: (bits: number) => number, infinity: number): number {
  if (Number.isNaN(x)) return -1;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  let low = 0;
  let high = infinity;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (value(middle) <= size) low = middle;
    else high = middle;
  }
  if (size >= value(infinity - 1) + (value(infinity - 1) - value(infinity - 2)) / 2) {
    return sign | infinity;
  }
  if (high === infinity) return sign | low;
  const down = size - value(low);
  const up = value(high) - size;
  return sign | (down < up || (down === up && low % 2 === 0) ? low : high);
}

function halfValue(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  return exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
}

function bfloatValue(bits: number): number {
  const exponent = (bits >> 7) & 255;
  const mantissa = bits & 127;
  return exponent === 0 ? mantissa * 2 ** -133 : (128 + mantissa) * 2 ** (exponent - 134);
}

const FORMATS = {
  f16: { value: halfValue, infinity: 0x7c00 },
  bf16: { value: bfloatValue, infinity: 0x7f80 },
};

async function patterns(x: { rawBytes(): Promise<Uint8Array<ArrayBuffer>>; size: number }) {
  const bytes = await x.rawBytes();
  return Array.from(new Uint16Array(bytes.buffer, 0, x.size));
}

const TRICKY = [
  0,
  -0,
  1,
  -1,
  0.1,
  65504,
  65519,
  65520,
  -65536,
  1e6,
  2 ** -14,
  2 ** -15,
  2 ** -24,
  2 ** -25,
  1.5 * 2 ** -25,
  2 ** -26,
  3 * 2 ** -25,
  1023.5 * 2 ** -24,
  2048,
  2049,
  2050,
  2051,
  4098,
  4102,
  1 + 2 ** -11,
  1 + 3 * 2 ** -11,
  1 + 2 ** -8,
  1 + 3 * 2 ** -8,
  3e38,
  3.4e38,
  1e-30,
  257,
  259,
].map(Math.fround);

for (const dtype of ["f16", "bf16"] as const) {
  const { value, infinity } = FORMATS[dtype];

  gpuTest(`cast f32 to ${dtype}: to nearest, ties to even, odd counts`, async () => {
    const values = [...TRICKY, ...randomValues(200, 3, 9)];
    for (const n of [0, 1, 2, 3, values.length]) {
      const y = cast(tensor(values.slice(0, n), [n]), dtype);
      is(y.dtype, dtype);
      const expected = values.slice(0, n).map((v) => nearest(v, value, infinity));
      equal(await patterns(y), expected, `${n} elements`);
    }
  });

  gpuTest(`cast ${dtype} to f32: every finite value`, async () => {
    const all = new Uint16Array(2 * infinity).map((_, i) =>
      i < infinity ? i : 0x8000 | (i - infinity),
    );
    const x = fromBytes(new Uint8Array(all.buffer), [all.length], dtype);
    const got = await cast(x, "f32").data();
    let wrong = 0;
    all.forEach((bits, i) => {
      const expected = (bits >= 0x8000 ? -1 : 1) * value(bits & 0x7fff);
      // Software devices may flush f32 subnormals, which only bf16 has.
      const tiny = Math.abs(expected) < 2 ** -126;
      if (!(Object.is(got[i], expected) || (tiny && Math.abs(got[i]!) <= Math.abs(expected))))
        wrong += 1;
    });
    is(wrong, 0);
    equal(await patterns(cast(cast(x, "f32"), dtype)), Array.from(all), "and back");
  });
}

gpuTest("cast: infinities and NaN survive", async () => {
  const bits = new Uint16Array([0x7c00, 0xfc00, 0x7e00]);
  const wide = cast(fromBytes(new Uint8Array(bits.buffer), [3], "f16"), "f32");
  const raw = new Uint32Array((await wide.rawBytes()).buffer);
  equal(Array.from(raw.slice(0, 2)), [0x7f800000, 0xff800000]);
  is((raw[2]! & 0x7fffffff) > 0x7f800000, true);
  equal((await patterns(cast(wide, "bf16"))).slice(0, 2), [0x7f80, 0xff80]);
});

gpuTest("cast: integers", async () => {
  const f = tensor([0, 1.9, -1.9, 1000.5, 7], [5]);
  equal(Array.from(await cast(f, "i32").data()), [0, 1, -1, 1000, 7]);
  equal(Array.from(await cast(tensor([0, 1.9, 3e9], [3]), "u32").data()), [0, 1, 3e9]);
  for (const dtype of ["i32", "u32"] as const) {
    const x = tensor([3, 0, 65535], [3], dtype);
    equal(Array.from(await cast(x, "f32").data()), [3, 0, 65535]);
    equal(await patterns(cast(x, "bf16")), [0x4040, 0, 0x4780]);
  }
  equal(Array.from(await cast(tensor([-3, 4], [2], "i32"), "f32").data()), [-3, 4]);
  const packed = cast(tensor([-3, 4.5], [2]), "f16");
  equal(Array.from(await cast(packed, "i32").data()), [-3, 4]);
});

gpuTest("cast: the same type shares memory and passes gradients", async () => {
  const x = zeros([2]);
  is(cast(x, "f32").storage, x.storage);
  await checkOp({
    name: "cast f32 to f32",
    run: (t) => cast(t!, "f32"),
    inputs: [{ shape: [5] }],
    forward: (t) => t!,
    backward: (dy) => [dy],
    bound: 0,
  });
  is(cast(parameter(tensor([1.5])), "i32").requiresGrad, false);
  noGrad(() => is(cast(parameter(zeros([2])), "f16").requiresGrad, false));
});

gpuTest("cast: errors", () => {
  const x = zeros([2]);
  throwsLike(
    () => cast(x, "f64" as DType),
    "DTypeError",
    "cast: dtype must be one of f32, f16",
    "f64",
  );
  throwsLike(
    () => cast(parameter(zeros([2])), "f16"),
    "GradError",
    "cast: x must be free",
    "detach",
  );
  x.dispose();
  throwsLike(() => cast(x, "f16"), "DisposedError", "cast: x must be alive");
});

runTests();
