// A hash of numbers and texts, the same on every machine: to split by content and to tell data sets apart.
import { philox4x32 } from "../tensor/philox.ts";

/** 64 bits over a sequence of 32-bit words. Not for secrets. */
export class ContentHash {
  #a: number;
  #b = 0x1b873593;
  #count = 0;

  constructor(seed = 0) {
    this.#a = seed >>> 0;
  }

  add(word: number): this {
    const mixed = Math.imul(turned(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
    this.#a = (Math.imul(turned(this.#a ^ mixed, 13), 5) + 0xe6546b64) >>> 0;
    this.#b = (Math.imul(turned(this.#b ^ word, 16), 0x85ebca6b) + this.#a) >>> 0;
    this.#count += 1;
    return this;
  }

  addText(text: string): this {
    for (let i = 0; i < text.length; i++) this.add(text.charCodeAt(i));
    return this.add(-1 - text.length);
  }

  addBytes(bytes: Uint8Array): this {
    for (const byte of bytes) this.add(byte);
    return this.add(-1 - bytes.length);
  }

  /** Two words that depend evenly on all that was added. */
  words(): [number, number] {
    const [high, low] = philox4x32([this.#a, this.#b, this.#count >>> 0, 0], [0x68617368, 0]);
    return [high, low];
  }

  hex(): string {
    return this.words()
      .map((word) => word.toString(16).padStart(8, "0"))
      .join("");
  }
}

function turned(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}
