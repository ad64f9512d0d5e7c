// Random123's known answers for philox4x32; what the GPU draws with is asked by test/ops/dropout.test.ts.
import { readFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, not } from "uvu/assert";
import {
  manualSeed,
  nextKey,
  philox4x32,
  randomState,
  setRandomState,
  type Words,
} from "../../src/tensor/philox.ts";
import { fixtureFolder } from "../fixtures.ts";
import { philox4x32 as reference } from "../reference/philox.ts";

interface Answer {
  counter: string[];
  key: string[];
  output: string[];
}

const answers: Answer[] = JSON.parse(readFileSync(fixtureFolder("philox.json"), "utf8"));
const words = (hex: readonly string[]) => hex.map((word) => Number.parseInt(word, 16));

test("philox: Random123's known answers", () => {
  is(answers.length, 3);
  for (const { counter, key, output } of answers) {
    const [c, k] = [words(counter) as Words, words(key) as [number, number]];
    equal(philox4x32(c, k), words(output));
    equal(reference(c, k), words(output), "the reference");
  }
});

test("philox: words of all sizes, as 64-bit arithmetic gives them", () => {
  let state: Words = [1, 0xffffffff, 0x80000000, 0x7fffffff];
  for (let i = 0; i < 500; i++) {
    const key: [number, number] = [state[3], i % 2 === 0 ? state[0] : 0xffffffff - i];
    const next = philox4x32(state, key);
    equal(next, reference(state, key));
    state = next;
  }
});

test("philox: a seed gives its keys again, and a saved state goes on where it was", () => {
  const before = randomState();
  manualSeed(7);
  const first = [nextKey(), nextKey()];
  const saved = randomState();
  const third = nextKey();
  not.equal(first[0], first[1]);
  manualSeed(7);
  equal([nextKey(), nextKey()], first);
  setRandomState(saved);
  equal(nextKey(), third);
  setRandomState(before);
});

test.run();
