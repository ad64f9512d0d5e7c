import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { decode, encode } from "../../src/tensor/dtype.ts";

const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

for (const dtype of ["f16", "bf16"] as const) {
  test(`F7 ${dtype}: all 65,536 patterns come back, NaN as a NaN`, () => {
    const values = decode(new Uint8Array(patterns.buffer), dtype);
    const again = new Uint16Array(encode(values, dtype).slice().buffer);
    for (let i = 0; i < 65536; i++) {
      if (Number.isNaN(values[i]))
        ok(Number.isNaN(decode(new Uint8Array(again.slice(i, i + 1).buffer), dtype)[0]!));
      else is(again[i], i);
    }
  });

  test(`${dtype}: rounds to the nearest, ties to even`, () => {
    const grid = (decode(new Uint8Array(patterns.buffer), dtype) as Float32Array)
      .filter((v) => Number.isFinite(v) && v > 0)
      .sort();
    for (let i = 1; i < grid.length; i += 97) {
      const [low, high] = [grid[i - 1]!, grid[i]!];
      const middle = (low + high) / 2;
      const third = Math.fround(low + (high - low) / 3);
      if (third > low && third < middle) is(decode(encode([third], dtype), dtype)[0], low);
      if (Math.fround(middle) !== middle) continue;
      const bits = new Uint16Array(encode([middle], dtype).slice().buffer)[0]!;
      is(bits & 1, 0, `the tie ${middle} goes to the even neighbour`);
    }
  });
}

test("integers out of range or with a fraction are refused", () => {
  for (const [value, dtype] of [
    [1.5, "i32"],
    [2 ** 31, "i32"],
    [-1, "u32"],
    [Number.NaN, "u32"],
  ] as [number, "i32" | "u32"][]) {
    let message = "";
    try {
      encode([0, value], dtype);
    } catch (error) {
      message = (error as Error).message;
    }
    ok(message.startsWith(`tensor: values[1] must be integers in [`), message);
  }
  equal([...decode(encode([-(2 ** 31), 7], "i32"), "i32")], [-(2 ** 31), 7]);
});

test.run();
