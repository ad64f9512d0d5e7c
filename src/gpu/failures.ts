// What the device reports: errors of work that it refused, and its loss.
import { DeviceError } from "./errors.ts";

const RECENT = 12;

export class Failures {
  private readonly recent: string[] = [];
  private recentNext = 0;
  private failure: DeviceError | null = null;
  /** Why the device is gone: set for good, and every later use throws. */
  private lossCause: string | null = null;

  constructor(device: GPUDevice) {
    device.onuncapturederror = (event) => {
      event.preventDefault(); // or the binding prints it too
      this.note(event.error.message);
    };
    device.lost
      .then((info) => {
        this.lossCause ??= (info.message || info.reason).trim();
      })
      .catch(() => {});
  }

  /** Remembers what was encoded last, for messages. */
  encoded(label: string): void {
    this.recent[this.recentNext++ % RECENT] = label;
  }

  /** Throws, once, the first error that was reported since the last look; a loss, always, as `op`'s. */
  throwAny(op: string): void {
    const { failure, lossCause } = this;
    if (!failure && lossCause === null) return;
    this.failure = null;
    if (failure) throw failure;
    throw new DeviceError({
      op,
      arg: "the device",
      expected: "there",
      got: `its loss: ${lossCause}`,
      hint: `Recent operations: ${this.recentLabels()}. Call gpu.dispose(), then init() again.`,
    });
  }

  /** Lets the news of a lost device arrive, which explain why a promise of the GPU was rejected. */
  async settle(op: string): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
    this.throwAny(op);
  }

  /** From now on every use throws. */
  close(): void {
    this.lossCause = "it was disposed of";
  }

  private note(message: string): void {
    this.failure ??= new DeviceError({
      op: culprit(message),
      got: "an error from the device",
      hint: `${message.trim()} (recent operations: ${this.recentLabels()})`,
    });
  }

  private recentLabels(): string {
    return [...new Set(this.recent)].join(", ") || "none";
  }
}

/**
 * The op that an error of the device is about. Dawn quotes the labels of all that took part: the pipeline
 * or the module has the name of the op that failed, a buffer that of the op which made it.
 */
function culprit(message: string): string {
  const quoted = [...message.matchAll(/\[(\w+)[\w ]* "+([^"]+)"+\]/g)];
  const labels = quoted.filter(([, , label]) => label !== "lowrank");
  const byKind = (kind: RegExp) => labels.find(([, type]) => kind.test(type!));
  const found = byKind(/Pipeline/) ?? byKind(/PassEncoder|ShaderModule/) ?? labels[0];
  return found?.[2] ?? "gpu";
}
