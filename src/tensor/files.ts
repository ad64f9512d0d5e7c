// Files of a folder: written whole or not at all, and read with errors that name them. Node only.
import { DiskError, FormatError } from "../gpu/errors.ts";
import { parseJson } from "./json.ts";

let written = 0;

/**
 * Writes to a temporary name in the same folder and renames. Makes the folder if need be.
 * @throws DiskError where the disk refuses, such as a full one; a file that was there is as before
 */
export async function writeFileSafely(path: string, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  await writeFileWith(path, (write) => write(bytes));
}

/**
 * The same for content that comes in parts.
 * @param bytes  length of them all, where it is known: a full disk is told it
 */
export async function writeFileWith(
  path: string,
  produce: (write: (part: Uint8Array) => Promise<void>) => Promise<void>,
  bytes?: number,
): Promise<void> {
  const { dirname, makeFolder, open, rename, rm } = await import("./disk.node.ts");
  written += 1;
  const temporary = `${path}.${process.pid}.${written}.tmp`; // two writers at once must not meet
  try {
    await makeFolder(dirname(path));
    const file = await open(temporary, "w");
    try {
      await produce((part) => file.writeFile(part));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}); // where a file stands in the folder's place
    throw diskError(path, error, bytes);
  }
}

/**
 * Removes what writers whose processes were killed left half written in a folder, if there is one. Nobody else may be
 * writing there.
 */
export async function removeHalfWritten(folder: string): Promise<void> {
  const { existsSync, readdir, rm } = await import("./disk.node.ts");
  if (!existsSync(folder)) return;
  for (const name of await readdir(folder)) {
    if (/\.\d+\.\d+\.tmp$/.test(name)) await rm(`${folder}/${name}`, { force: true });
  }
}

/**
 * What is thrown where the disk refuses to write: a DiskError that names the file. Any other error stays as it is.
 * @param bytes  what was to be written, where it is known
 */
export function diskError(path: string, error: unknown, bytes?: number): unknown {
  if (!(error instanceof Error && "syscall" in error)) return error;
  const isFull = "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
  const needed = isFull && bytes !== undefined ? `It needs ${bytes.toLocaleString("en-US")} bytes. ` : ""; // biome-ignore format: one line
  return new DiskError({
    op: "files",
    arg: path,
    expected: "a file that can be written",
    got: reasonOf(error),
    hint: `${needed}What was there is as before.`,
  });
}

/** Why the disk refused: `ENOSPC: no space left on device`. */
export function reasonOf({ message }: Error): string {
  return message.replace(/, \w+( '.*)?$/s, "");
}

/** The JSON object in a file. Throws FormatError where there is none. */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  const { readFile } = await import("./disk.node.ts");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new FormatError(`readJson: ${path} cannot be read: ${(error as Error).message}.`);
  }
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new FormatError(`readJson: ${path} is not JSON: ${(error as Error).message}.`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new FormatError({
    op: "readJson",
    arg: path,
    expected: "a JSON object",
    got: Array.isArray(value) ? "a list" : value === null ? "null" : typeof value,
  });
}

/** Whether there is a file or folder of this name. */
export async function fileExists(path: string): Promise<boolean> {
  const { existsSync } = await import("./disk.node.ts");
  return existsSync(path);
}
