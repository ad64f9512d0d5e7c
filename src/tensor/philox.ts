// Philox-4x32-10, the counter-based generator behind every random number that is made on the CPU, and the keys of those
// that the GPU makes (`src/kernels/wgsl/lib/threefry.wgsl`).
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
import { activeRecording, currentValue, replayed, type Scalar } from "../gpu/recording.ts";

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** High 32 bits of a 32-bit product, from 16-bit halves. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const mid = aHigh * bLow + (low >>> 16);
  const carry = aLow * bHigh + (mid % 0x10000);
  return (aHigh * bHigh + Math.floor(mid / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

export type Words = [number, number, number, number];

const ROUNDS = 10;

/** Four random words for a counter of four words and a key of two. */
export function philox4x32(counter: Readonly<Words>, key: readonly [number, number]): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A key of two words: what one random op draws with. In a captured step each replay draws anew. */
export type Key = readonly [Scalar, Scalar];

/** A seed and how many keys were drawn from it. */
export interface RandomState {
  seed: number;
  drawn: number;
}

let state: RandomState = { seed: 0, drawn: 0 };

/** Restarts the random numbers. The same seed gives the same numbers on every adapter. */
export function manualSeed(seed: number): void {
  setRandomState({ seed: seed >>> 0, drawn: 0 });
}

/** The state now. Asked for in a captured step, the object is brought up to date in each replay. */
export function randomState(): RandomState {
  return copyOfState(() => state);
}

/** As `randomState`, of a state that is not the common one. */
export function copyOfState(stateNow: () => RandomState): RandomState {
  const copy = { ...stateNow() };
  replayed(() => Object.assign(copy, stateNow()));
  return copy;
}

export function setRandomState(to: RandomState): void {
  replayed(() => {
    state = { ...to };
  });
}

/** A fresh key: (seed, how many were drawn before). */
export function nextKey(): Key {
  return nextKeyOf(() => state);
}

/** A fresh key of a state that is not the common one. */
export function nextKeyOf(stateNow: () => RandomState): Key {
  const key = { seed: 0, drawn: 0 };
  replayed(() => {
    const state = stateNow();
    key.seed = state.seed;
    key.drawn = state.drawn >>> 0;
    state.drawn += 1;
  });
  return activeRecording() ? [() => key.seed, () => key.drawn] : [key.seed, key.drawn];
}

/** A fresh key for random numbers that are made on the CPU. */
export function nextKeyWords(): readonly [number, number] {
  const [seed, drawn] = nextKey();
  return [currentValue(seed), currentValue(drawn)];
}

/** The threshold t = floor(p·2^32): an element is kept where its word is at least t. */
export function dropThreshold(p: number): number {
  return Math.min(Math.floor(p * 2 ** 32), 0xffffffff);
}
