// Files of a folder: written whole or not at all, and read with errors that name them. Node only.
import { FormatError, LowrankError } from "../gpu/errors.ts";
import { parseJson } from "./json.ts";

let written = 0;

/**
 * Writes to a temporary name in the same folder and renames. Makes the folder if need be.
 * @throws LowrankError where the disk refuses, such as a full one; a file that was there is as before
 */
export async function writeFileSafely(path: string, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  await writeFileWith(path, (write) => write(bytes));
}

/** The same for content that comes in parts. */
export async function writeFileWith(
  path: string,
  produce: (write: (part: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const { dirname, mkdir, open, rename, rm } = await import("./disk.node.ts");
  written += 1;
  const temporary = `${path}.${process.pid}.${written}.tmp`; // two writers at once must not meet
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(temporary, "w");
    try {
      await produce((part) => file.writeFile(part));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw isOfDisk(error) ? refusedBy(path, error) : error;
  }
}

const isOfDisk = (error: unknown): error is Error => error instanceof Error && "syscall" in error;

function refusedBy(path: string, { message }: Error): LowrankError {
  return new LowrankError({
    op: "files",
    arg: path,
    expected: "a file that can be written",
    got: message.replace(/, \w+( '.*)?$/s, ""), // "ENOSPC: no space left on device, write"
    hint: "What was there is as before.",
  });
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
    got: typeof value,
  });
}

/** Whether there is a file or folder of this name. */
export async function fileExists(path: string): Promise<boolean> {
  const { existsSync } = await import("./disk.node.ts");
  return existsSync(path);
}
