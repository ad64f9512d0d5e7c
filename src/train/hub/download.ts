// One file of the hub: taken up where an earlier download ended, and checked by its hash.
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { FormatError, LowrankError } from "../../gpu/errors.ts";
import { diskError } from "../../tensor/files.ts";
import type { HubCache } from "./cache.ts";

const ATTEMPTS = 5;
const FIRST_WAIT_MS = 100;

/** A file as the hub lists it. */
export interface RemoteFile {
  path: string;
  size: number;
  /** SHA-256 of a large file's content, or the git blob id of a small one. */
  etag: string;
}

/** Gives the bytes of a file from `start` on. */
export type Fetcher = (file: RemoteFile, start: number) => Promise<AsyncIterable<Uint8Array>>;

/** Downloads of this process that are under way, by the blob's path. */
const running = new Map<string, Promise<void>>();

/**
 * Brings a blob into the cache. A connection that breaks is opened again where it broke, until several
 * in a row bring nothing; what came stays for the next call.
 * @param onBytes  called with the number of bytes of the file that are here
 * @throws LowrankError for a network that gives nothing more; FormatError for content that is not what
 *   the hub listed; DiskError for a full disk; what the hub answers as `fetcher` throws it
 */
export async function download(
  cache: HubCache,
  file: RemoteFile,
  fetcher: Fetcher,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const path = cache.blob(file.etag);
  const same = running.get(path);
  if (same) return same;
  const mine = claimed(cache, file, fetcher, onBytes).finally(() => running.delete(path));
  running.set(path, mine);
  return mine;
}

async function claimed(
  cache: HubCache,
  file: RemoteFile,
  fetcher: Fetcher,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const part = await cache.claim(file.etag);
  try {
    if ((await sizeOf(part)) > file.size) await rm(part);
    await complete(part, file, fetcher, onBytes);
    await check(part, file);
    await rename(part, cache.blob(file.etag));
  } finally {
    await cache.giveBack(file.etag);
  }
}

async function complete(
  part: string,
  file: RemoteFile,
  fetcher: Fetcher,
  onBytes: (bytes: number) => void,
): Promise<void> {
  for (let failures = 0; ; ) {
    const before = await sizeOf(part);
    try {
      return await append(part, file, fetcher, before, onBytes);
    } catch (error) {
      const isAnswer = (error as { statusCode?: number }).statusCode !== undefined;
      if (isAnswer || error instanceof LowrankError) throw error;
      const bytes = await sizeOf(part);
      failures = bytes > before ? 1 : failures + 1;
      if (failures === ATTEMPTS) {
        throw new LowrankError({
          op: "hub",
          arg: file.path,
          expected: `${file.size} bytes`,
          got: `${bytes}, then ${(error as Error).message ?? error}`,
          hint: "What came is kept: the next call goes on from there.",
        });
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** (failures - 1)));
    }
  }
}

async function sizeOf(path: string): Promise<number> {
  const file = await open(path, "a");
  try {
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}

/** Appends what follows the first `bytes`. */
async function append(
  part: string,
  file: RemoteFile,
  fetcher: Fetcher,
  bytes: number,
  onBytes: (bytes: number) => void,
): Promise<void> {
  onBytes(bytes);
  if (bytes === file.size) return;
  const target = await open(part, "a");
  try {
    let done = bytes;
    for await (const piece of await fetcher(file, bytes)) {
      await target.writeFile(piece).catch((error: unknown) => {
        throw diskError(part, error, file.size); // no network mends it
      });
      done += piece.length;
      if (done > file.size) return; // not what was asked for: the check will say so
      onBytes(done);
    }
    if (done < file.size) throw new Error("the connection ended early");
    await target.sync();
  } finally {
    await target.close();
  }
}

/** Removes a part whose content is not what was listed. */
async function check(path: string, { path: name, size, etag }: RemoteFile): Promise<void> {
  const bytes = await sizeOf(path);
  const isSha256 = /^[0-9a-f]{64}$/.test(etag);
  const hash: Hash = createHash(isSha256 ? "sha256" : "sha1");
  if (!isSha256) hash.update(`blob ${size}\0`); // as git names its blobs
  for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array);
  const got = hash.digest("hex");
  if (bytes === size && got === etag) return;
  await rm(path);
  throw new FormatError({
    op: "hub",
    arg: name,
    expected: `${size} bytes with the hash ${etag}`,
    got: `${bytes} bytes with ${got}`,
    hint: "It was removed; the next call downloads it anew.",
  });
}
