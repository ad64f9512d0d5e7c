// FolderLock: one process at a time works in a folder. Node only.
import { ValueError } from "../gpu/errors.ts";
import { diskError, reasonOf, writeFileSafely } from "../tensor/files.ts";

/** Who holds a lock. */
interface Holder {
  pid: number;
  host: string;
  /** When the process began, in the system's own count: a later process may have its number. Empty where unknown. */
  began: string;
  since: string;
}

/** After so long a lock that says nothing is that of a process which was killed before it had written it. */
const WRITTEN_MS = 60_000;

type Disk = typeof import("../tensor/disk.node.ts");

/**
 * A file `lock` that says which process works in the folder. That of a process that is gone, however it ended, is
 * taken over.
 */
export class FolderLock {
  private constructor(
    private readonly path: string,
    private readonly text: string,
  ) {}

  /**
   * Takes the folder, which is made if need be.
   * @param op  who asks, for messages
   * @param arg  the argument that names the folder
   * @throws ValueError where a process that lives, or one on another host, has it, and where it cannot be made;
   *   DiskError where the disk refuses the lock
   */
  static async take(op: string, arg: string, folder: string): Promise<FolderLock> {
    const disk = await import("../tensor/disk.node.ts");
    await makeFolder(disk, op, arg, folder);
    const path = `${folder}/lock`;
    const { pid } = process;
    const since = new Date().toISOString();
    const own: Holder = { pid, host: disk.hostname(), began: beganAt(disk, pid), since };
    const text = JSON.stringify(own);
    if (await created(disk, path, text)) return new FolderLock(path, text);
    if (!(await takenOver(disk, path, text))) throw inUse(op, arg, folder, disk);
    return new FolderLock(path, text);
  }

  /**
   * Makes nothing, for an early word: `take` decides.
   * @throws ValueError where another process has the folder
   */
  static async check(op: string, arg: string, folder: string): Promise<void> {
    const disk = await import("../tensor/disk.node.ts");
    const path = `${folder}/lock`;
    if (disk.existsSync(path) && !isGone(disk, path)) throw inUse(op, arg, folder, disk);
  }

  /** Gives the folder back. */
  async release(): Promise<void> {
    const disk = await import("../tensor/disk.node.ts");
    if (textOf(disk, this.path) === this.text) await disk.rm(this.path, { force: true });
  }
}

async function makeFolder(disk: Disk, op: string, arg: string, folder: string): Promise<void> {
  try {
    await disk.makeFolder(folder);
  } catch (error) {
    const got = `${folder}: ${reasonOf(error as Error)}`;
    throw new ValueError({ op, arg, expected: "a folder that can be written", got });
  }
}

/** Writes a file that must not be there yet. */
async function created(disk: Disk, path: string, text: string): Promise<boolean> {
  try {
    const file = await disk.open(path, "wx");
    try {
      await file.writeFile(text);
    } catch (error) {
      await disk.rm(path, { force: true }); // an empty lock would keep everybody out
      throw error;
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") return false;
    throw diskError(path, error);
  }
}

/** Puts another lock in the place of one whose process is gone. Of several that try, one succeeds. */
async function takenOver(disk: Disk, path: string, text: string): Promise<boolean> {
  if (!isGone(disk, path)) return false;
  const claim = `${path}.claim`;
  if (!(await created(disk, claim, text))) return false;
  try {
    if (!isGone(disk, path)) return false; // another was faster
    await writeFileSafely(path, text);
    return true;
  } finally {
    await disk.rm(claim, { force: true });
  }
}

function textOf(disk: Disk, path: string): string {
  try {
    return disk.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function holderOf(text: string): Holder | null {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return null; // half written by a process that was killed, or just being written
  }
}

function isGone(disk: Disk, path: string): boolean {
  const holder = holderOf(textOf(disk, path));
  if (!holder) return Date.now() - disk.modifiedAt(path) > WRITTEN_MS;
  if (holder.host !== disk.hostname()) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return (error as { code?: string }).code === "ESRCH";
  }
  return holder.began !== beganAt(disk, holder.pid);
}

/** The 22nd field of /proc/…/stat; the second one, a name in brackets, may hold blanks. */
function beganAt(disk: Disk, pid: number): string {
  const stat = textOf(disk, `/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

function inUse(op: string, arg: string, folder: string, disk: Disk): ValueError {
  const path = `${folder}/lock`;
  const holder = holderOf(textOf(disk, path));
  const who = holder
    ? `process ${holder.pid} on ${holder.host} since ${holder.since}`
    : "a process";
  return new ValueError({
    op,
    arg,
    expected: "in use by no other process",
    got: `${folder}, where ${who} works`,
    hint: `Choose another folder, or wait for it. If it has ended, remove ${path}.`,
  });
}
