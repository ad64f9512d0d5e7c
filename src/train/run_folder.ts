// RunFolder: where a run keeps its last checkpoint and its best weights.
import { ValueError } from "../gpu/errors.ts";
import { fileExists, removeHalfWritten } from "../tensor/files.ts";
import { readMetadata } from "../tensor/safetensors_file.ts";
import { type CheckpointOptions, type FitOptions, type Settings, setsOf } from "./fit_options.ts";
import { FolderLock } from "./folder_lock.ts";
import type { Seat } from "./seat.ts";
import {
  type Identity,
  loadTraining,
  type RunState,
  saveBest,
  saveTraining,
} from "./training_checkpoint.ts";

/**
 * `last.safetensors` is a whole checkpoint, `best.safetensors` the trained parameters of the best look.
 * Each is written under another name and renamed: whatever happens, the file before stays whole.
 */
export class RunFolder {
  private constructor(
    private readonly folder: string,
    private readonly lock: FolderLock,
    private readonly state: RunState,
    private readonly identity: Identity,
  ) {}

  /**
   * The folder of `options.checkpoint`, and its checkpoint in `state` where the run is to go on.
   * @throws ValueError where there is a checkpoint and none was asked for, or where another process works in the
   *   folder; FormatError where the checkpoint is not of this run
   */
  static async open(
    seat: Seat,
    options: FitOptions,
    settings: Settings,
    state: RunState,
  ): Promise<RunFolder> {
    const { folder, resume } = options.checkpoint!;
    if (resume === true) await readMetadata(`${folder}/last.safetensors`); // before a folder is made
    const lock = await FolderLock.take("fit", "checkpoint.folder", folder);
    try {
      const identity = await identityOf(seat, options, settings, state);
      const opened = new RunFolder(folder, lock, state, identity);
      await opened.begin(options.checkpoint!);
      await options.checkpoint!.onOpen?.();
      return opened;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Gives the folder back. */
  close(): Promise<void> {
    return this.lock.release();
  }

  private async begin({ folder, resume = false }: CheckpointOptions): Promise<void> {
    const path = `${folder}/last.safetensors`;
    const isThere = await fileExists(path);
    if (isThere && !resume) {
      const hint = "Go on with its run by `resume: true`, or choose another folder.";
      const facts = { arg: "checkpoint.folder", expected: "without a checkpoint", got: path, hint };
      throw new ValueError({ op: "fit", ...facts });
    }
    await removeHalfWritten(folder);
    if (isThere || resume === true) await loadTraining(path, this.state, this.identity);
  }

  async saveLast(): Promise<void> {
    await saveTraining(`${this.folder}/last.safetensors`, this.state, this.identity);
  }

  async saveBest(): Promise<void> {
    await saveBest(`${this.folder}/best.safetensors`, this.state);
  }
}

/** What must be the same when a run goes on: its bits depend on it. */
async function identityOf(
  seat: Seat,
  { train, validate }: FitOptions,
  settings: Settings,
  { parameters, optimizer, rates }: RunState,
): Promise<Identity> {
  const groups = optimizer.groups.map(({ weightDecay }, i) => ({ lr: rates[i], weightDecay }));
  return {
    model: await seat.fingerprint(new Set(parameters.values())),
    data: train.fingerprint,
    validationData: [...setsOf(validate)].map(([name, rows]) => [name, rows.fingerprint]),
    ...settings,
    groups,
  };
}
