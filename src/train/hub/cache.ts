// The cache that Hugging Face's tools share: models--org--name/{refs,blobs,snapshots}. Blobs are named by
// their hash; a snapshot is a folder of links to them.
import { constants, existsSync } from "node:fs";
import { copyFile, link, lstat, readdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { makeFolder } from "../../tensor/disk.node.ts";
import { diskError, writeFileSafely } from "../../tensor/files.ts";

export class HubCache {
  private readonly folder: string;

  /**
   * @param cacheDir  the folder of all repositories
   * @param repo  `org/name`
   */
  constructor(cacheDir: string, repo: string) {
    this.folder = join(cacheDir, `models--${repo.replace("/", "--")}`);
  }

  /** The folder of a commit. */
  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  blob(etag: string): string {
    return join(this.folder, "blobs", etag);
  }

  /** The commit that a revision meant when it was last asked for, or null. */
  async commitOf(revision: string): Promise<string | null> {
    if (/^[0-9a-f]{40}$/.test(revision))
      return existsSync(this.snapshot(revision)) ? revision : null;
    const path = join(this.folder, "refs", revision);
    return existsSync(path) ? (await readFile(path, "utf8")).trim() : null;
  }

  /** Notes which commit a revision means. */
  async remember(revision: string, commit: string): Promise<void> {
    if (revision !== commit) await writeFileSafely(join(this.folder, "refs", revision), commit);
  }

  /** Puts a blob into a snapshot under the name of its file. */
  async place(commit: string, path: string, etag: string): Promise<void> {
    const target = join(this.snapshot(commit), path);
    if (existsSync(target)) return;
    await makeFolderOf(target);
    if (await isLink(target)) await rm(target); // it leads nowhere
    const blob = this.blob(etag);
    try {
      await symlink(relative(dirname(target), blob), target);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EEXIST") return; // another process was faster
      // No right to make symbolic links, as on some Windows machines.
      await link(blob, target).catch(() => copyFile(blob, target, constants.COPYFILE_FICLONE));
    }
  }

  /**
   * Takes what an earlier download of a blob left. While a process writes to a part, the part carries
   * its id, so that no two write to one; the part of a process that is gone is free.
   * @returns the part's path; the file need not be there
   */
  async claim(etag: string): Promise<string> {
    const blobs = dirname(this.blob(etag));
    await makeFolderOf(this.blob(etag));
    const mine = this.part(etag, process.pid);
    for (const name of await readdir(blobs)) {
      if (existsSync(mine)) break;
      if (!isFreePart(join(blobs, name), this.part(etag))) continue;
      await rename(join(blobs, name), mine).catch(() => {}); // another process was faster
    }
    return mine;
  }

  /** Leaves a part to whoever comes next. */
  async giveBack(etag: string): Promise<void> {
    const mine = this.part(etag, process.pid);
    if (existsSync(mine)) await rename(mine, this.part(etag));
  }

  private part(etag: string, pid?: number): string {
    const holder = pid === undefined ? "" : `.${pid}`;
    return `${this.blob(etag)}.lowrank${holder}.incomplete`;
  }
}

/** Makes the folder in which a file is to lie. Throws DiskError where the disk refuses. */
async function makeFolderOf(path: string): Promise<void> {
  await makeFolder(dirname(path)).catch((error: unknown) => {
    throw diskError(path, error);
  });
}

/** Whether a file is the part `free`, or the same part in the hands of a process that is gone. */
function isFreePart(path: string, free: string): boolean {
  if (path === free) return true;
  const stem = free.slice(0, -".incomplete".length);
  const pid = path.startsWith(`${stem}.`) && path.match(/\.(\d+)\.incomplete$/)?.[1];
  return Boolean(pid) && !isAlive(Number(pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 asks only
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch {
    return false;
  }
}
