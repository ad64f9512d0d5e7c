// Shuffling without a state: where each place of an epoch's order leads is computed from the place alone.
import { ValueError } from "../../gpu/errors.ts";
import { philox4x32 } from "../../tensor/philox.ts";

const ROUNDS = 6;

/**
 * The i-th of the numbers 0 … n − 1 in an order that depends on seed and epoch alone: a Feistel network of Philox,
 * walked until it stays below n.
 * @param i  place in the order, in [0, n)
 * @param n  how many numbers, at most 2³⁰
 * @param stream  tells orders with the same seed and epoch apart
 * @see Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"
 */
export function permuted(i: number, n: number, seed: number, epoch: number, stream = 0): number {
  if (!(Number.isInteger(i) && i >= 0 && i < n && n <= 2 ** 30)) {
    throw new ValueError({ op: "permuted", arg: "i", expected: `in [0, ${n})`, got: `${i}` });
  }
  const half = Math.max(1, Math.ceil(Math.log2(n) / 2));
  const mask = 2 ** half - 1;
  let at = i;
  do {
    let [left, right] = [at >>> half, at & mask];
    for (let round = 0; round < ROUNDS; round++) {
      const [word] = philox4x32([right, round, epoch >>> 0, n], [seed >>> 0, stream]);
      [left, right] = [right, left ^ (word & mask)];
    }
    at = left * (mask + 1) + right;
  } while (at >= n);
  return at;
}
