// What a tensor looks like: nested arrays, and text with one row a line.
import { equal, is } from "uvu/assert";
import "../../src/autograd/methods.ts";
import { arange, tensor } from "../../src/tensor/create.ts";
import { gpuTest, runTests } from "../gpu.ts";

gpuTest("print: type, shape, one row a line", async () => {
  is(
    await tensor([1, 2, 3, 4, 5, 6], [2, 3]).print(),
    "f32[2, 3] [[1, 2, 3],\n           [4, 5, 6]]",
  );
  is(await tensor([7], []).print(), "f32[] 7");
  is(await tensor([], [0, 2]).print(), "f32[0, 2] []");
  is(
    await arange(0, 8, 1, "i32").reshape([2, 2, 2]).print(),
    "i32[2, 2, 2] [[[0, 1],\n               [2, 3]],\n              [[4, 5],\n               [6, 7]]]",
  );
});

gpuTest("print: floats in five digits, integers whole, what is not a number by name", async () => {
  is(
    await tensor([1 / 3, -123456789, 1e-12, 0.1]).print(),
    "f32[4] [0.33333, -123460000, 1e-12, 0.1]",
  );
  is(await tensor([NaN, Infinity, -Infinity]).print(), "f32[3] [NaN, Infinity, -Infinity]");
  is(await tensor([4294967295, 0], [2], "u32").print(), "u32[2] [4294967295, 0]");
  is(await tensor([1 / 3], [1], "bf16").print(), "bf16[1] [0.33398]");
});

gpuTest("print: long axes keep three at either end", async () => {
  is(await arange(0, 9).print(), "f32[9] [0, 1, 2, …, 6, 7, 8]");
  is(await arange(0, 8).print(), "f32[8] [0, 1, 2, 3, 4, 5, 6, 7]");
  const rows = (await arange(0, 18).reshape([9, 2]).print()).split("\n");
  equal(
    rows.map((row) => row.trim()),
    ["f32[9, 2] [[0, 1],", "[2, 3],", "[4, 5],", "…,", "[12, 13],", "[14, 15],", "[16, 17]]"],
  );
});

gpuTest("array: nested like the shape", async () => {
  equal(await arange(0, 6).reshape([3, 1, 2]).array(), [[[0, 1]], [[2, 3]], [[4, 5]]]);
  equal(await tensor([], [2, 0]).array(), [[], []]);
  is(await tensor([5], []).array(), 5);
});

runTests();
