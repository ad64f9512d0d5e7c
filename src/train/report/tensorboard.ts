// Event files of TensorBoard: scalars by step, in TFRecord's frames around protocol buffers.
//   record = length u64, mask(crc(length)) u32, bytes, mask(crc(bytes)) u32; little-endian
//   mask(c) = ((c >> 15) | (c << 17)) + 0xa282ead8;  crc: CRC-32C (RFC 3720, B.4)
import { writeFileWith } from "../../tensor/files.ts";

/** A number at a step. */
export interface Scalar {
  tag: string;
  step: number;
  value: number;
  /** Seconds since 1970. */
  time: number;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c;
});

/** CRC-32C, Castagnoli's polynomial. */
export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function masked(bytes: Uint8Array): number {
  const c = crc32c(bytes);
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
}

/** A frame around bytes. */
function record(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(bytes.length + 16);
  const view = new DataView(frame.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(8, masked(frame.subarray(0, 8)), true);
  frame.set(bytes, 12);
  view.setUint32(12 + bytes.length, masked(bytes), true);
  return frame;
}

/** A number below 2^53 in groups of seven bits, the lowest first. */
function varint(n: number): number[] {
  const bytes: number[] = [];
  let rest = n;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}

/** A field of protocol buffers that holds bytes. */
function field(number: number, bytes: ArrayLike<number>): number[] {
  return [(number << 3) | 2, ...varint(bytes.length), ...Array.from(bytes)];
}

function floating(number: number, value: number, size: 4 | 8): number[] {
  const view = new DataView(new ArrayBuffer(size));
  if (size === 4) view.setFloat32(0, value, true);
  else view.setFloat64(0, value, true);
  return [(number << 3) | (size === 4 ? 5 : 1), ...new Uint8Array(view.buffer)];
}

const text = new TextEncoder();

/** tensorflow.Event with file_version, the first of each file. */
function opening(time: number): Uint8Array {
  return Uint8Array.from([...floating(1, time, 8), ...field(3, text.encode("brain.Event:2"))]);
}

/** tensorflow.Event: wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } }. */
function event({ tag, step, value, time }: Scalar): Uint8Array {
  const inner = [...field(1, text.encode(tag)), ...floating(2, value, 4)];
  return Uint8Array.from([
    ...floating(1, time, 8),
    ...(step === 0 ? [] : [2 << 3, ...varint(step)]), // zero is what an absent number means
    ...field(5, field(1, inner)),
  ]);
}

/**
 * Writes scalars as an event file of its own, whole or not at all.
 * @param folder  a run of TensorBoard; made if need be
 * @param started  seconds since 1970, part of the name
 * @returns the file's path
 */
export async function writeEvents(
  folder: string,
  scalars: readonly Scalar[],
  started: number,
): Promise<string> {
  const name = `events.out.tfevents.${Math.floor(started).toString().padStart(10, "0")}.lowrank`;
  const path = `${folder}/${name}`;
  await writeFileWith(path, async (write) => {
    await write(record(opening(started)));
    for (let at = 0; at < scalars.length; at += 1000) {
      const frames = scalars.slice(at, at + 1000).map((scalar) => record(event(scalar)));
      await write(Buffer.concat(frames));
    }
  });
  return path;
}
