// Which adapters take part: one object for a model, which all of its adapted layers look at.
import { noting, type Restore } from "../autograd/surroundings.ts";
import { ValueError } from "../gpu/errors.ts";
import { replayed } from "../gpu/recording.ts";
import { copyOfState, type RandomState } from "../tensor/philox.ts";

/** The adapters of each sequence of a batch. */
export type RowNames = readonly (readonly string[])[];

export class Switches {
  /** The adapters whose updates are added. */
  active: readonly string[] = [];
  /** Off: the model computes what its base computes. */
  enabled = true;
  /** The adapters of each sequence of a batch, in the place of `active`. */
  rows: RowNames | null = null;
  /** Where the random numbers of each adapter go on that is trained beside others. */
  readonly streams = new Map<string, RandomState>();
  /** How many calls of `during` have not returned. */
  #depth = 0;
  /** Which method waits for an async function to end, if one does. */
  #waiting: string | null = null;

  /** Throws ValueError while an async function runs that counts on the switches as they are. */
  checkFree(op: string): void {
    if (!this.#waiting) return;
    const got = `one that still runs in \`${this.#waiting}\``;
    const hint = "Await it first: all would compute with the switches of the last.";
    const facts = { arg: "the adapters", expected: "used by no other async function" };
    throw new ValueError({ op, ...facts, got, hint });
  }

  /**
   * Switches while a function runs, and back when it has returned or thrown; of an async function, when its
   * promise has settled. Until then nothing else may switch.
   * @throws ValueError while another async function runs, for an async function inside of another function,
   *   and for one that returns an iterator, which would compute later
   */
  during<T>(op: string, set: Partial<Pick<Switches, "enabled" | "rows">>, fn: () => T): T {
    this.checkFree(op);
    const before = { enabled: this.enabled, rows: this.rows };
    Object.assign(this, set);
    const forget = noting(() => noteSwitches(this));
    const back = () => {
      Object.assign(this, before);
      forget();
    };
    this.#depth += 1;
    let result: T;
    try {
      result = fn();
      checkNow(op, result, this.#depth > 1);
      if (isPromise(result)) this.#waiting = op;
    } finally {
      this.#depth -= 1;
      if (!this.#waiting) back();
    }
    if (!isPromise(result)) return result;
    return Promise.resolve(result).finally(() => {
      this.#waiting = null;
      back();
    }) as T;
  }
}

function isPromise(result: unknown): result is PromiseLike<unknown> {
  return typeof (result as PromiseLike<unknown> | null)?.then === "function";
}

/** Throws ValueError where what a function returned would compute when the switches are back. */
function checkNow(op: string, result: unknown, isInside: boolean): void {
  const refuse = (expected: string, got: string, hint: string): never => {
    throw new ValueError({ op, arg: "fn", expected, got, hint });
  };
  if (isPromise(result) && isInside) {
    void result.then(null, () => {}); // its own failure is not the one to report
    const hint = "Await one after the other.";
    refuse("no async function inside of another call", "a promise", hint);
  }
  if (Symbol.asyncIterator in Object(result) || isIterator(result)) {
    const hint = "Run its loop inside of fn, and return what it gathers.";
    refuse("a function that computes before it ends", "one that returns an iterator", hint);
  }
}

/** What a generator function returns: nothing of it has run. Arrays and maps are not. */
function isIterator(result: unknown): boolean {
  return typeof (result as Iterator<unknown> | null)?.next === "function";
}

/** Notes who takes part and where their random numbers are, for a checkpoint that runs again in backward. */
function noteSwitches(switches: Switches): Restore {
  const then = copyOf(switches);
  return () => {
    const now = copyOf(switches);
    bringBack(switches, then);
    return () => bringBack(switches, now);
  };
}

type Noted = Pick<Switches, "active" | "enabled" | "rows" | "streams">;

function copyOf({ active, enabled, rows, streams }: Switches): Noted {
  const copies = Array.from(streams, ([name, state]) => [name, copyOfState(() => state)] as const);
  return { active, enabled, rows, streams: new Map(copies) };
}

function bringBack(switches: Switches, { streams, ...rest }: Noted): void {
  Object.assign(switches, rest);
  replayed(() => {
    for (const [name, state] of streams) Object.assign(switches.streams.get(name) ?? {}, state);
  });
}
