// The file system, under Node. With src/gpu/entry.node.ts the only modules that a browser build replaces.
import { statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";

export { closeSync, existsSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
export { copyFile, open, readdir, readFile, rename, rm } from "node:fs/promises";
export { freemem, hostname } from "node:os";
export { dirname };

/** When a file was last written, in milliseconds since 1970. Infinity where there is none. */
export function modifiedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity;
}

/**
 * Makes a folder and those above it; one that is there stays. Node's own `recursive` never returns where a folder
 * that is there refuses with ENOENT, as /proc does.
 */
export async function makeFolder(path: string): Promise<void> {
  const attempt = () =>
    mkdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
      if (statSync(path).isDirectory()) return;
      error.message = `ENOTDIR: ${path} is no folder`;
      throw error;
    });
  try {
    await attempt();
  } catch (error) {
    const above = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || above === path) throw error;
    await makeFolder(above);
    await attempt();
  }
}
