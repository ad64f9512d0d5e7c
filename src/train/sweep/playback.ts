// Playback: a search that is asked again what it was asked before, up to what nobody has done yet.
import { ValueError } from "../../gpu/errors.ts";
import type { Job, Search } from "./search.ts";
import { same } from "./space.ts";
import { keyOf, outcomeOf, type TrialLine } from "./trials_file.ts";

export class Playback {
  private readonly known = new Map<string, TrialLine>();
  private asked: Job[] = [];

  constructor(
    private readonly search: Search,
    lines: readonly TrialLine[],
  ) {
    for (const line of lines) this.add(line);
  }

  /** What came of a job. */
  add(line: TrialLine): void {
    this.known.set(keyOf({ trial: line.trial, steps: line.budget }), line);
  }

  /**
   * The next jobs that are to be done, asked for so many at a time. Those given out before that are still
   * open come again. None: the search is over.
   * @throws ValueError where a known line has other settings than the search asks for
   */
  next(most: number): Job[] {
    for (;;) {
      const open = this.asked.filter((job) => !this.known.has(keyOf(job)));
      if (open.length > 0) return open;
      for (const job of this.asked) this.search.tell(outcomeOf(this.known.get(keyOf(job))!));
      this.asked = this.search.ask(most);
      if (this.asked.length === 0) return [];
      for (const job of this.asked) this.check(job);
    }
  }

  private check(job: Job): void {
    const line = this.known.get(keyOf(job));
    if (!line || same(line.settings, job.settings)) return;
    throw new ValueError({
      op: "sweep",
      arg: `trial ${job.trial}`,
      expected: `with ${JSON.stringify(job.settings)}`,
      got: JSON.stringify(line.settings),
      hint: "A sweep goes on with the same space, search and seed; another needs a folder of its own.",
    });
  }
}
