// What the benches write and compare.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, unreachable } from "uvu/assert";
import { CASES, inputValues } from "../../bench/peers/cases.ts";
import { difference, wrongProduct } from "../../bench/peers/verify.ts";
import { writeResults } from "../../bench/results.ts";
import { conditions } from "../../src/train/bench/timed.ts";
import { runNode } from "../child.ts";
import { matmul } from "../reference/matmul.ts";

const small = (layout: "NN" | "NT" | "TN") => {
  const [M, K, N] = [5, 7, 3];
  const a = { name: "a", shape: layout === "TN" ? [K, M] : [M, K] };
  const b = { name: "b", shape: layout === "NT" ? [N, K] : [K, N] };
  return { ...CASES[0]!, kind: "gemm" as const, layout, inputs: [a, b] };
};

test("a right product passes in every layout, one wrong element does not", () => {
  for (const layout of ["NN", "NT", "TN"] as const) {
    const work = small(layout);
    const values = inputValues(work);
    const [a, b] = work.inputs.map(({ shape }, i) => [values[i]!, shape] as const);
    const transpose = { transposeA: layout === "TN", transposeB: layout === "NT" };
    const right = Float32Array.from(matmul(...a!, ...b!, transpose).data);
    is(wrongProduct(work, values, right), null);
    right[4]! += 0.01;
    match(wrongProduct(work, values, right)!, /^y\[1, 1\] should be/);
    right[4] = Number.NaN;
    is(wrongProduct(work, values, right), "the result is not finite");
  }
});

test("results that differ are not timed", () => {
  const ours = Float32Array.of(1, -1, 1, -1);
  is(difference(ours, Float32Array.of(1, -1, 1, -1.00001), 1e-4), null);
  match(difference(ours, Float32Array.of(1, -1, 1, -1.01), 1e-4)!, /^wrong numbers: off by 1.0e-2/);
  match(difference(ours, Float32Array.of(Number.NaN, -1, 1, -1), 1e-4)!, /^wrong numbers/);
  is(difference(ours, Float32Array.of(1), 1e-4), "1 results instead of 4");
});

test("every case has the same inputs in every run, tokens below the vocabulary", () => {
  const work = CASES.find(({ kind }) => kind === "gpt")!;
  const [first, second] = [inputValues(work), inputValues(work)];
  equal(first[0], second[0]);
  equal(Math.max(...first[0]!) < 512 && Math.min(...first[0]!) >= 0, true);
});

test("results gather over several runs of one device; another device's file is refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-results-"));
  const file = join(folder, "results.json");
  type Row = { name: string; ms: number };
  const write = (rows: Row[], driver = "one") =>
    writeResults(file, { ...conditions("ops", "lavapipe", driver), rows }, (row) => row.name);
  try {
    await write([
      { name: "a", ms: 1 },
      { name: "b", ms: 2 },
    ]);
    await write([{ name: "b", ms: 3 }]);
    const read = () => JSON.parse(readFileSync(file, "utf8")).rows;
    const expected = [
      { name: "a", ms: 1 },
      { name: "b", ms: 3 },
    ];
    equal(read(), expected);
    try {
      await write([{ name: "c", ms: 4 }], "two");
      unreachable();
    } catch (error) {
      match((error as Error).message, /must hold results of driver "two", got "one"/);
    }
    equal(read(), expected);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a library that is not there is refused before anything runs", async () => {
  const args = ["--import", "tsx", "bench/peers/main.ts", "--libraries", "lowrank,nobody"];
  const { code, stderr } = await runNode(args);
  is(code, 1);
  match(
    stderr,
    /--libraries must be among lowrank, tfjs, jax-js, jax-js-wasm, pytorch, got nobody/,
  );
});

test.run();
