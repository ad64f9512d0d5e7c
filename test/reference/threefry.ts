// Threefry-4x32 of any number of rounds, written down as Salmon et al. (SC 2011) do; known answers from Random123.

export type Words = [number, number, number, number];

/** Bits by which words 1 and 3 are rotated in a round, of eight. */
const ROTATIONS = [10, 26, 11, 21, 13, 27, 23, 5, 6, 20, 17, 11, 25, 10, 18, 20];
const PARITY = 0x1bd11bda;

const sum = (a: number, b: number) => (a + b) % 2 ** 32;
const rotated = (a: number, by: number) =>
  ((a * 2 ** by) % 2 ** 32) + Math.floor(a / 2 ** (32 - by));
const xor = (a: number, b: number) => (a ^ b) >>> 0;

/** Four random words for a counter and a key of four words each. */
export function threefry4x32(counter: Readonly<Words>, key: Readonly<Words>, rounds = 13): Words {
  const keys = [...key, key.reduce(xor, PARITY)];
  const x = counter.map((word, i) => sum(word, key[i]!)) as Words;
  for (let round = 0; round < rounds; round++) {
    for (const [half, a] of [0, 2].entries()) {
      const b = round % 2 === 0 ? a + 1 : (a + 3) % 4; // 0 with 1 and 2 with 3, then 0 with 3 and 2 with 1
      x[a] = sum(x[a]!, x[b]!);
      x[b] = xor(rotated(x[b]!, ROTATIONS[2 * (round % 8) + half]!), x[a]!);
    }
    if (round % 4 !== 3) continue;
    const time = (round + 1) / 4;
    for (let i = 0; i < 4; i++) x[i] = sum(x[i]!, keys[(time + i) % 5]!);
    x[3] = sum(x[3], time);
  }
  return x;
}
