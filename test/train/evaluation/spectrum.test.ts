// The spectrum of an update against a dense SVD of s·B·A, and the advice that follows from it.
import { test } from "uvu";
import { equal, is, match, ok, throws } from "uvu/assert";
import { columnsOf, product, svd } from "../../../src/lora/linalg.ts";
import { addDecomposedLora, addLora } from "../../../src/lora/lora.ts";
import { LlamaForCausalLM } from "../../../src/nn/llama.ts";
import { copyStorage } from "../../../src/nn/optim/arena.ts";
import { tensor } from "../../../src/tensor/create.ts";
import type { Tensor } from "../../../src/tensor/tensor.ts";
import { rankAdvice } from "../../../src/train/evaluation/rank_advice.ts";
import {
  adapterSpectra,
  type Spectrum,
  spectrumOf,
} from "../../../src/train/evaluation/spectrum.ts";
import { gpuTest, randomValues, runTests } from "../../gpu.ts";

/** Singular values of s·B·A by the SVD of the whole product. */
function dense(A: ArrayLike<number>, B: ArrayLike<number>, r: number, s: number): number[] {
  const [inner, out] = [A.length / r, B.length / r];
  const whole = product(columnsOf(B, out, r), columnsOf(A, r, inner));
  return Array.from(svd(whole).S, (v) => v * Math.abs(s));
}

for (const [r, inner, out, s] of [
  [1, 5, 7, 2],
  [4, 33, 20, 0.5],
  [8, 8, 8, 1],
  [16, 10, 40, -3],
  [16, 40, 10, 1],
  [3, 1, 9, 2],
  [12, 5, 4, 1],
] as const) {
  // biome-ignore format: one line
  test(`the spectrum of rank ${r}, [${out}, ${inner}], times ${s} is that of the product`, () => {
    const [A, B] = [randomValues(r * inner, 1), randomValues(out * r, 2)];
    const found = spectrumOf({ A, B, r, in: inner, out, scaling: s });
    const expected = dense(A, B, r, s);
    is(found.r, r);
    is(found.values.length, Math.min(r, inner, out));
    for (const [i, v] of expected.entries()) {
      const got = found.values[i] ?? 0;
      ok(Math.abs(got - v) < 1e-12 * expected[0]!, `${i}: ${got} not ${v}`);
    }
    const energy = expected.reduce((sum, v) => sum + v * v, 0);
    ok(Math.abs(found.norm - Math.sqrt(energy)) < 1e-12 * found.norm);
    ok(Math.abs(found.stableRank - energy / expected[0]! ** 2) < 1e-11);
    for (const [rank, share] of [[found.rank50, 0.5], [found.rank90, 0.9]] as const) { // biome-ignore format: one line
      const held = (k: number) => expected.slice(0, k).reduce((sum, v) => sum + v * v, 0) / energy;
      ok(held(rank) >= share - 1e-12 && held(rank - 1) < share, `${rank} for ${share}`);
    }
  });
}

/** An update with these singular values, from the directions of an SVD. */
function updateWith(values: readonly number[], inner = 24, out = 20) {
  const r = values.length;
  const { U, V } = svd(columnsOf(randomValues(inner * out, 3), out, inner));
  const A = Float64Array.from({ length: r * inner }, (_, at) => V[Math.floor(at / inner)]![at % inner]!); // biome-ignore format: one line
  const B = Float64Array.from({ length: out * r }, (_, at) => U[at % r]![Math.floor(at / r)]! * values[at % r]!); // biome-ignore format: one line
  return { A, B, r, in: inner, out, scaling: 1 };
}

test("known values: ranks that hold 50 and 90 %, stable rank, the edge of a share", () => {
  const { values, rank50, rank90, stableRank, norm } = spectrumOf(updateWith([3, 2, 1, 1]));
  for (const [i, v] of [3, 2, 1, 1].entries()) ok(Math.abs(values[i]! - v) < 1e-13);
  // Energies 9, 4, 1, 1 of 15: 60 %, 87 %, 93 %.
  equal([rank50, rank90], [1, 3]);
  ok(Math.abs(stableRank - 15 / 9) < 1e-12 && Math.abs(norm - Math.sqrt(15)) < 1e-12);
  const equals = spectrumOf(updateWith(new Array(10).fill(2)));
  equal([equals.rank50, equals.rank90], [5, 9], "exactly half and nine tenths");
  const zero = spectrumOf({ ...updateWith([1, 1]), B: new Float64Array(40) });
  equal(zero, { r: 2, values: [0, 0], norm: 0, stableRank: 0, rank50: 0, rank90: 0 });
});

test("an update that is not finite is refused", () => {
  const bad = { ...updateWith([1]), scaling: 1 };
  bad.A[3] = Number.NaN;
  throws(() => spectrumOf(bad), /spectrum: A and B must be finite, got infinity or NaN/);
});

const spectra = (...list: number[][]): Map<string, Spectrum> =>
  new Map(list.map((values, i) => [`layer.${i}`, spectrumOf(updateWith(values))]));

test("advice: fewer directions hold it, so a smaller rank would do", () => {
  const steep = Array.from({ length: 16 }, (_, i) => 0.5 ** i);
  const third = [10, 9, 8, ...new Array(13).fill(0.1)];
  const advice = rankAdvice(spectra(third, third, steep));
  is(advice.verdict, "smaller");
  equal([advice.r, advice.rank], [4, 16]);
  equal(advice.rank90, { median: 3, largest: 3 });
  is(advice.text, "90 % of the energy lies in rank 3 of 16 (median of 3 layers; 3 at most): r = 4 would do."); // biome-ignore format: one line
});

test("advice: a flat spectrum asks for more, one that falls within the rank fits, rank 1 cannot tell", () => {
  const flat = rankAdvice(spectra(new Array(8).fill(1), new Array(8).fill(3)));
  equal([flat.verdict, flat.r], ["larger", 16]);
  match(flat.text, "rank 8 of 8 (median of 2 layers; 8 at most): the spectrum is flat");
  const falling = rankAdvice(spectra(Array.from({ length: 8 }, (_, i) => 0.8 ** i)));
  equal([falling.verdict, falling.r], ["fits", 8]);
  match(falling.text, /^90 % of the energy lies in rank 5 of 8: r = 8 fits\.$/);
  is(rankAdvice(spectra([2])).verdict, "unknown");
});

test("advice: layers that were not trained are named, and count for nothing", () => {
  const zero = [0, 0, 0, 0];
  const some = rankAdvice(spectra([9, 1, 0.1, 0.1], zero));
  equal(some.zeroLayers, ["layer.1"]);
  equal([some.verdict, some.r], ["smaller", 1]);
  const none = rankAdvice(spectra(zero, zero));
  is(none.verdict, "nothing");
  match(none.text, "B is zero everywhere");
  is(rankAdvice(new Map()).verdict, "nothing");
});

test("one layer of ten may need more; two make the rank", () => {
  const [one, four] = [[9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [5, 5, 5, 5, 0.1, 0.1, 0.1, 0.1]]; // biome-ignore format: one line
  const layers = (fours: number) =>
    spectra(...Array.from({ length: 10 }, (_, i) => (i < fours ? four : one)));
  is(rankAdvice(layers(1)).r, 1);
  is(rankAdvice(layers(2)).r, 4);
});

const CONFIG = { vocab_size: 20, hidden_size: 12, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 16 }; // biome-ignore format: one line

function fill(t: Tensor, seed: number): void {
  using values = tensor(randomValues(t.size, seed), t.shape);
  copyStorage(values.storage, t.storage, t.bytes);
}

gpuTest(
  "of an adapter in a model: patterns and embeddings, each layer as its product",
  async () => {
    const model = new LlamaForCausalLM(CONFIG);
    const lora = addLora(model, {
      ...{ r: 4, lora_alpha: 8, rank_pattern: { up_proj: 2 }, alpha_pattern: { q_proj: 3 } },
      target_modules: ["q_proj", "up_proj", "embed_tokens"],
    });
    for (const [i, p] of lora.parameters().entries()) fill(p, i + 1);
    const found = await adapterSpectra(lora);
    equal([...found.keys()], [...lora.layers.keys()]);
    for (const [path, spectrum] of found) {
      const { lora_A, lora_B, r, scaling } = lora.layers.get(path)!.adapters.get("default")!;
      const expected = dense(await lora_A.data(), await lora_B.data(), r, scaling);
      is(spectrum.r, path.includes("up_proj") ? 2 : 4);
      for (const [i, v] of spectrum.values.entries()) ok(Math.abs(v - expected[i]!) < 1e-11);
    }
    model.dispose();
  },
);

gpuTest(
  "of a PiSSA adapter: nothing at first, then what was learnt and not what it began with",
  async () => {
    const model = new LlamaForCausalLM(CONFIG);
    const config = { r: 2, init_lora_weights: "pissa" as const, target_modules: ["q_proj"] };
    const lora = await addDecomposedLora(model, config);
    const [path] = [...lora.layers.keys()];
    const before = (await adapterSpectra(lora)).get(path!)!;
    ok(before.norm < 1e-6, `${before.norm}`); // of the rounded A and B, which are as they were
    const { lora_A, lora_B, start, scaling } = lora.layers.get(path!)!.adapters.get("default")!;
    fill(lora_B, 5);
    const { values } = (await adapterSpectra(lora)).get(path!)!;
    const [A, B, A0, B0] = [await lora_A.data(), await lora_B.data(), await start!.A.data(), await start!.B.data()]; // biome-ignore format: one line
    const minus = (M: ArrayLike<number>[], N: ArrayLike<number>[]) =>
      M.map((column, j) => Float64Array.from(column, (v, i) => v - N[j]![i]!));
    const now = product(columnsOf(B, 12, 2), columnsOf(A, 2, 12));
    const then = product(columnsOf(B0, 12, 2), columnsOf(A0, 2, 12));
    const expected = svd(minus(now, then)).S;
    for (const [i, v] of values.entries()) ok(Math.abs(v - scaling * expected[i]!) < 1e-6 * values[0]!); // biome-ignore format: one line
    model.dispose();
  },
);

runTests();
