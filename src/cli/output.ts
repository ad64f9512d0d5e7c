// Output: results on stdout, as text or as one JSON document; progress and notes on stderr.
import type { SingleBar } from "cli-progress";

/** Absent where only the core is installed; then there are no bars. */
const library = await import("cli-progress").catch(() => null);

/** A progress bar, or nothing where none is to be seen. */
export interface Bar {
  /** @param facts  what stands behind the bar, such as `loss 2.31` */
  update(done: number, facts?: string): void;
  end(): void;
}

export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  private readonly bars = new Set<Bar>();

  constructor({ json = false, quiet = false }: { json?: boolean; quiet?: boolean } = {}) {
    this.json = json;
    this.quiet = quiet;
  }

  /** A line of the result for people: on stdout; nothing in JSON mode. */
  say(text = ""): void {
    if (!this.json) console.log(text);
  }

  /** What is going on, for people: on stderr, above a bar; nothing in quiet mode. */
  note(text: string): void {
    if (this.quiet) return;
    if (this.bars.size === 0) console.error(text);
    else if (!process.stderr.isTTY) console.error(text.trimStart());
    // In place of the bar, which is drawn anew below: its end goes to the position saved last.
    else process.stderr.write(`\r\x1b[K${text.trimStart()}\n\x1b7`);
  }

  /** The one JSON document; nothing outside of JSON mode. */
  document(value: unknown): void {
    if (this.json) console.log(JSON.stringify(value, null, 2));
  }

  /**
   * A progress bar on stderr; on what is no terminal a line now and then.
   * @param name  stands before it
   * @param total  how much there is to do
   */
  bar(name: string, total: number, done = 0): Bar {
    const bar = this.quiet ? null : makeBar(name, total, done);
    const shown: Bar = {
      update: (n, facts = "") => bar?.update(n, { facts }),
      end: () => {
        if (this.bars.delete(shown)) bar?.stop();
      },
    };
    this.bars.add(shown);
    return shown;
  }

  /** Ends what bars an error has left. */
  end(): void {
    for (const bar of [...this.bars]) bar.end();
  }
}

function makeBar(name: string, total: number, done: number): SingleBar | null {
  if (!library) return null;
  const { SingleBar, Format } = library.default;
  const bar = new SingleBar({
    format: `${name} {bar} {value}/{total} {facts} {duration_formatted} eta {eta_formatted}`,
    stream: process.stderr,
    barsize: 24,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    hideCursor: true,
    etaBuffer: 50,
    noTTYOutput: true,
    notTTYSchedule: 10_000,
    clearOnComplete: !process.stderr.isTTY, // no blank line behind the last one
    // What is not known yet comes as a word: INF, NULL, or a "0".
    formatTime: (t, options, step) => (typeof t === "number" ? Format.TimeFormat(t, options, step) : "?"), // biome-ignore format: one line
  });
  bar.start(total, done, { facts: "" });
  return bar;
}
