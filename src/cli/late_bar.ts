// LateBar: a progress bar that only shows where something takes long.
import type { Bar, Output } from "./output.ts";

/** How long it waits. */
const MOMENT_MS = 1500;

export class LateBar {
  private bar: Bar | null = null;

  /** @param began  since when it waits, by `performance.now()` */
  constructor(
    private readonly output: Output,
    readonly name: string,
    private readonly began = performance.now(),
  ) {}

  update(done: number, of: number, facts = ""): void {
    if (performance.now() - this.began < MOMENT_MS) return;
    this.bar ??= this.output.bar(this.name, of, done);
    this.bar.update(done, facts);
  }

  end(): void {
    this.bar?.end();
  }
}
