// Hostile archives in place of SwiftShader's: each is refused before anything is written.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { test } from "uvu";
import { equal, is } from "uvu/assert";
import { embeddedSwiftShader } from "../../src/gpu/software.ts";
import { filesBelow, LIBRARY, NAMES, onlyCopy, withCache } from "../cache.ts";
import { inFolder } from "../child.ts";
import { throwsLike } from "../gpu.ts";
import { type TarEntry, tar } from "../tar.ts";

const packed = (bytes: Uint8Array): Uint8Array =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });

/** An archive that is as it should be, but for what `extra` adds or replaces. */
function archiveWith(...extra: TarEntry[]): Uint8Array {
  const replaced = new Set(extra.map((entry) => entry.name));
  const plain = NAMES.filter((name) => !replaced.has(name)).map((name) => ({ name, text: name }));
  return tar([...plain, ...extra]);
}

const HOSTILE: readonly [string, Uint8Array, RegExp][] = [
  ["a path upward", packed(archiveWith({ name: "../evil", text: "x" })), /"..\/evil" is no plain/],
  ["an absolute path", packed(archiveWith({ name: "/tmp/evil", text: "x" })), /no plain file name/],
  ["a folder in a name", packed(archiveWith({ name: "a/b", text: "x" })), /no plain file name/],
  ["a hidden name", packed(archiveWith({ name: ".draft", text: "x" })), /no plain file name/],
  [
    "a path upward by the prefix",
    packed(archiveWith({ name: "evil", text: "x", prefix: ".." })),
    /"..\/evil" is no plain/,
  ],
  ["a name with a newline", packed(archiveWith({ name: "a\nb", text: "x" })), /no plain file name/],
  [
    "a file twice",
    packed(tar([...NAMES, LIBRARY].map((name) => ({ name, text: name })))),
    /libvk_swiftshader.so is there twice/,
  ],
  [
    "a symbolic link in a file's place",
    packed(archiveWith({ name: LIBRARY, type: "2", link: "/etc/passwd" })),
    /the archive has no libvk_swiftshader.so/,
  ],
  [
    "a hard link in the last file's place",
    packed(archiveWith({ name: NAMES[2]!, type: "1", link: "/etc/passwd" })),
    /the archive has no vk_swiftshader_icd.json/,
  ],
  ["a size past the end", packed(archiveWith({ name: "x", text: "x", size: 1e9 })), /past the end/],
  ["a negative size", packed(archiveWith({ name: "x", sizeText: "-0000000777" })), /no octal/],
  [
    "a size in base 256",
    packed(archiveWith({ name: "x", sizeText: "\x80\0\0\0\0\0\x10" })),
    /octal/,
  ],
  ["a wrong checksum", packed(archiveWith({ name: "x", text: "x", checksum: 1 })), /is damaged/],
  ["no end mark", packed(archiveWith().subarray(0, -1024)), /ends without an end mark/],
  ["a truncated file", packed(archiveWith().subarray(0, 700)), /past the end|without an end/],
  ["nothing at all", packed(new Uint8Array(0)), /without an end mark/],
  ["truncated compression", packed(archiveWith()).subarray(0, 40), /Brotli data/],
  ["no compression at all", archiveWith(), /Brotli data/],
  ["an empty file", new Uint8Array(0), /Brotli data|without an end mark/],
];

for (const [what, bytes, message] of HOSTILE) {
  test(`a hostile archive, ${what}: a clear error, and nothing is written`, () =>
    inFolder((folder) => {
      const [archive, cache] = [join(folder, "hostile.tar.br"), join(folder, "cache")];
      writeFileSync(archive, bytes);
      const unpack = () => withCache(cache, () => embeddedSwiftShader(archive));
      throwsLike(unpack, "FormatError", message);
      equal(filesBelow(folder), ["hostile.tar.br"]);
    }));
}

test("links, folders and other files beside those that are needed are left out", () =>
  inFolder((folder) => {
    const archive = join(folder, "archive.tar.br");
    const extra: TarEntry[] = [
      { name: "../up", type: "2", link: "/etc/passwd" },
      { name: "../../folder", type: "5" },
      { name: "README", text: "x" },
    ];
    writeFileSync(archive, packed(archiveWith(...extra)));
    withCache(join(folder, "cache"), () => embeddedSwiftShader(archive));
    const copy = onlyCopy(join(folder, "cache"));
    is(readFileSync(join(copy, LIBRARY), "utf8"), LIBRARY);
    is(filesBelow(folder).length, 5);
  }));

test.run();
