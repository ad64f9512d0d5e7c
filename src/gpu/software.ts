// The embedded software device: SwiftShader and a Vulkan loader, out of the npm package that carries
// them into a cache folder. Works without root and without apt, on Linux x64.
import { createHash, randomUUID } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { EMBEDDED_COMMAND } from "./advice.ts";
import { DeviceError, FormatError } from "./errors.ts";
import { readTar } from "./tar.ts";

/** The npm package that carries SwiftShader. */
const CARRIER = "@sparticuz/chromium";
const ARCHIVE = "bin/swiftshader.tar.br";
const LOADER = "libvulkan.so.1";
const ICD = "vk_swiftshader_icd.json";
const FILES = ["libvk_swiftshader.so", LOADER, ICD] as const;
const MANIFEST = "manifest.json";
const MAX_BYTES = 256 * 2 ** 20;

/** Where the unpacked files lie. */
export interface Embedded {
  folder: string;
  /** The Vulkan loader, for machines that have none. */
  loader: string;
  /** What `VK_DRIVER_FILES` has to name. */
  icd: string;
}

/**
 * The embedded SwiftShader, unpacked and verified. Safe when several processes start at once: every file
 * is put in place by a rename, and all of them write the same bytes.
 * @throws DeviceError where the package is not installed or nothing can be written.
 */
export function embeddedSwiftShader(archive: string = findArchive()): Embedded {
  const packed = readFileSync(archive);
  const folder = join(cacheFolder(), `swiftshader-${sha256(packed)}`);
  if (!isIntact(folder)) unpack(packed, folder);
  return { folder, loader: join(folder, LOADER), icd: join(folder, ICD) };
}

/** The archive, looked for where Node would look for the package: from here, then from the working folder. */
export function findArchive(): string {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new DeviceError(`swiftshader: there is none for ${process.platform} ${process.arch}`);
  }
  const starts = [import.meta.url, join(process.cwd(), "package.json")];
  for (const start of starts) {
    for (const path of createRequire(start).resolve.paths(CARRIER) ?? []) {
      const archive = join(path, CARRIER, ARCHIVE);
      if (existsSync(archive)) return archive;
    }
  }
  throw new DeviceError(`swiftshader: ${CARRIER} is missing. Run: ${EMBEDDED_COMMAND}`);
}

/**
 * A folder of ours that can be written: `$LOWRANK_CACHE`, else `$XDG_CACHE_HOME/lowrank`, else
 * `~/.cache/lowrank`, else one in the system's temporary folder.
 */
export function cacheFolder(): string {
  const { LOWRANK_CACHE, XDG_CACHE_HOME } = process.env;
  const places = LOWRANK_CACHE
    ? [LOWRANK_CACHE]
    : [join(XDG_CACHE_HOME || join(homedir(), ".cache"), "lowrank"), temporaryFolder()];
  for (const place of places) if (isWritable(place)) return place;
  throw new DeviceError(
    `swiftshader: cannot write to ${places.join(" nor to ")}. Set LOWRANK_CACHE to a folder that can be written`,
  );
}

const user = (): number => process.getuid?.() ?? 0;
const temporaryFolder = (): string => join(tmpdir(), `lowrank-${user()}`);

function isWritable(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch {
    return false;
  }
  if (folder !== temporaryFolder()) return true;
  // Libraries are loaded from here, and anyone may have made a folder of this name in a shared place.
  const { uid, mode } = lstatSync(folder);
  return uid === user() && (mode & 0o170000) === 0o040000 && (mode & 0o022) === 0;
}

/** True where every file is there with the hash that was noted when it was unpacked. */
function isIntact(folder: string): boolean {
  try {
    const noted = JSON.parse(readFileSync(join(folder, MANIFEST), "utf8")) as Record<
      string,
      string
    >;
    return FILES.every((name) => sha256(readFileSync(join(folder, name))) === noted[name]);
  } catch {
    return false;
  }
}

function unpack(packed: Uint8Array, folder: string): void {
  const files = filesOf(packed); // all of them, before anything is written
  const draft = join(folder, `.draft-${randomUUID()}`);
  mkdirSync(draft, { recursive: true });
  try {
    const noted: Record<string, string> = {};
    for (const [name, bytes] of files) {
      noted[name] = sha256(bytes);
      place(draft, folder, name, bytes);
    }
    place(draft, folder, MANIFEST, JSON.stringify(noted, null, 2));
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** The files that are needed, out of the archive. */
function filesOf(packed: Uint8Array): [string, Uint8Array][] {
  let archive: Uint8Array;
  try {
    archive = brotliDecompressSync(packed, { maxOutputLength: MAX_BYTES });
  } catch (error) {
    throw new FormatError({
      op: "swiftshader",
      arg: "the archive",
      expected: `Brotli data of at most ${MAX_BYTES} bytes`,
      hint: `${(error as Error).message}. Install ${CARRIER} again`,
    });
  }
  const files = readTar(archive);
  return FILES.map((name) => {
    const bytes = files.get(name);
    if (bytes) return [name, bytes];
    throw new FormatError(`swiftshader: the archive has no ${name}`);
  });
}

/** Writes beside the target and renames: at no time is a file missing or half there for another process. */
function place(draft: string, folder: string, name: string, content: Uint8Array | string): void {
  writeFileSync(join(draft, name), content);
  renameSync(join(draft, name), join(folder, name));
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
