// Quantised matrices on the host: the tables, codes and scales, against PyTorch and by definition.
import { test } from "uvu";
import { equal, is, ok, throws } from "uvu/assert";
import { DYNAMIC_MAP, dynamicCode, NF4_LEVELS, nf4Code } from "../../src/tensor/nf4.ts";
import {
  blockScales,
  dequantizeValues,
  QUANTIZED_TYPES,
  quantizedBytes,
  quantizedParts,
  quantizeValues,
} from "../../src/tensor/quantized.ts";
import { loadSafetensors } from "../../src/tensor/safetensors_file.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, randomValues, runTests, throwsLike } from "../gpu.ts";
import * as reference from "../reference/dequantize.ts";

const single = (values: ArrayLike<number>) => Float32Array.from(values);

test("NF4 has 16 ascending levels of f32, 0 among them, and takes the nearest", () => {
  is(NF4_LEVELS.length, 16);
  is(NF4_LEVELS[7], 0);
  for (const [i, level] of NF4_LEVELS.entries()) {
    is(Math.fround(level), level);
    is(nf4Code(level), i);
    if (i === 0) continue;
    const middle = (level + NF4_LEVELS[i - 1]!) / 2;
    is(nf4Code(middle), i - 1);
    is(nf4Code(middle + 1e-9), i);
  }
  is(nf4Code(-5), 0);
  is(nf4Code(5), 15);
});

test("the dynamic map has 256 ascending values from −0.993 to 1, and takes the nearest", () => {
  is(DYNAMIC_MAP.length, 256);
  is(DYNAMIC_MAP[127], 0);
  is(DYNAMIC_MAP[255], 1);
  for (let i = 0; i < 256; i++) {
    is(dynamicCode(DYNAMIC_MAP[i]!), i);
    if (i > 0) ok(DYNAMIC_MAP[i]! > DYNAMIC_MAP[i - 1]!);
    if (i > 0 && i < 127) is(DYNAMIC_MAP[i], -DYNAMIC_MAP[254 - i]!);
  }
});

gpuTest(
  "tables, codes and scales are those that PyTorch computes from the definitions",
  async () => {
    const stored = await loadSafetensors(fixtureFolder("quantized.safetensors"));
    const of = async (name: string) => Array.from(await stored.get(name)!.data());
    close(NF4_LEVELS, await of("levels"), 6e-8, "levels");
    equal(Array.from(DYNAMIC_MAP), await of("map"), "map");
    for (const name of ["small", "large"]) {
      const w = stored.get(`${name}.w`)!;
      const values = (await w.data()) as Float32Array;
      for (const type of QUANTIZED_TYPES) {
        const bytes = quantizeValues(values, w.shape, type);
        const parts = quantizedParts(type, w.shape, bytes);
        const is = async (part: "codes" | "absmax" | "blocks" | "nested" | "mean") => {
          if (!stored.has(`${name}.${type}.${part}`)) return;
          const expected = await of(`${name}.${type}.${part}`);
          if (part === "codes" || part === "blocks") equal(Array.from(parts[part]), expected, part);
          else close(parts[part], expected, 1e-7, `${name} ${type} ${part}`);
        };
        await is("codes");
        if (type === "int8") await is("absmax");
        else for (const part of ["blocks", "nested", "mean"] as const) await is(part);
        if (name !== "small") continue;
        const back = dequantizeValues(bytes, w.shape, type);
        close(back, await of(`${name}.${type}.values`), 2e-7, `${type} values`);
      }
    }
    for (const t of stored.values()) t.dispose();
  },
);

test("what is kept is what the definitions say, over ragged shapes", () => {
  const shapes = [
    [1, 1],
    [1, 63],
    [3, 64],
    [5, 65],
    [31, 67],
    [64, 300],
    [1, 16_500],
  ];
  for (const [seed, shape] of shapes.entries()) {
    const n = shape[0]! * shape[1]!;
    const values = randomValues(n, seed + 1).map((v, i) => v * (1 + (Math.floor(i / 100) % 7)));
    const kept = (type: "int8" | "nf4") =>
      dequantizeValues(quantizeValues(single(values), shape, type), shape, type);
    close(kept("int8"), reference.int8(values, shape[1]!), 1e-6, `int8 [${shape}]`);
    close(kept("nf4"), reference.nf4(values, NF4_LEVELS, DYNAMIC_MAP), 1e-6, `nf4 [${shape}]`);
  }
});

test("an error is at most half a step: of a row's 254 in int8, of the widest gap of levels in NF4", () => {
  const shape = [37, 128];
  const values = single(randomValues(37 * 128, 3));
  const int8 = dequantizeValues(quantizeValues(values, shape, "int8"), shape, "int8");
  const nf4 = quantizeValues(values, shape, "nf4");
  const back = dequantizeValues(nf4, shape, "nf4");
  const scales = blockScales(quantizedParts("nf4", shape, nf4));
  for (let i = 0; i < values.length; i++) {
    ok(Math.abs(values[i]! - int8[i]!) <= (0.5 / 127) * 1.001);
    const block = values.subarray(64 * Math.floor(i / 64), 64 * Math.floor(i / 64) + 64);
    const most = block.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    // Half the gap between −1 and the next level, and what the scale itself was rounded by.
    const bound = 0.152 * most + Math.abs(scales[Math.floor(i / 64)]! - most);
    ok(Math.abs(values[i]! - back[i]!) <= bound);
  }
});

test("zeros stay zeros, signs stay signs, and what is kept is kept again", () => {
  for (const type of QUANTIZED_TYPES) {
    const shape = [4, 96];
    const zeros = new Float32Array(384);
    equal(dequantizeValues(quantizeValues(zeros, shape, type), shape, type).map(Math.abs), zeros);
    const half = single(randomValues(384, 5)).map((v, i) => (i < 192 ? 0 : v));
    const once = dequantizeValues(quantizeValues(half, shape, type), shape, type);
    ok(once.subarray(0, 192).every((v) => v === 0));
    ok(once.every((v, i) => v === 0 || Math.sign(v) === Math.sign(half[i]!)));
    const tiny = half.map((v) => v * 1e-42);
    ok(dequantizeValues(quantizeValues(tiny, shape, type), shape, type).every(Number.isFinite));
    if (type === "nf4") continue; // whose scales are rounded
    const twice = dequantizeValues(quantizeValues(once, shape, type), shape, type);
    close(twice, once, 1e-7, "twice");
  }
});

test("NF4 takes 4.127 bits an element, int8 8 bits and 32 for each row", () => {
  const [rows, columns] = [2048, 2048];
  const n = rows * columns;
  is(quantizedBytes("int8", [rows, columns]), n + 4 * rows);
  is(quantizedBytes("nf4", [rows, columns]), n / 2 + n / 64 + n / 64 / 64 + 4 + 1024);
  ok((8 * quantizedBytes("nf4", [rows, columns]) - 8 * 1028) / n < 4.1271);
});

test("what is no matrix, or not finite, is refused", () => {
  throwsLike(
    () => quantizedBytes("nf4", [2, 3, 4]),
    "ShapeError",
    "nf4: shape must be [rows, columns]",
  );
  for (const bad of [NaN, Infinity, -Infinity]) {
    for (const type of QUANTIZED_TYPES) {
      const values = Float32Array.of(1, bad, 2, 3);
      throwsLike(() => quantizeValues(values, [2, 2], type), "ValueError", "must be finite");
    }
  }
  throws(() => quantizeValues(Float32Array.of(1e39), [1, 1], "int8"));
});

runTests();
