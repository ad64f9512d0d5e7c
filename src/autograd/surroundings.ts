// Surroundings: what a function's result depends on besides arguments and parameters, such as where random numbers
// are, so that a checkpoint can run it again in the same.
import { randomState, setRandomState } from "../tensor/philox.ts";

/** Makes things as they were, and returns what takes that back. */
export type Restore = () => () => void;

/** Notes how things are now. May be called in a captured step, where each replay notes anew. */
export type Note = () => Restore;

const noteRandom: Note = () => {
  const then = randomState();
  return () => {
    const now = randomState();
    setRandomState(then);
    return () => setRandomState(now);
  };
};

let notes: readonly Note[] = [noteRandom];

/** Has checkpoints restore more than the common random numbers, until the function that it returns is called. */
export function noting(note: Note): () => void {
  notes = [...notes, note];
  return () => {
    notes = notes.filter((other) => other !== note);
  };
}

/** Notes everything. What it returns runs a function as if it were now. */
export function noteAll(): <T>(fn: () => T) => T {
  const then = notes;
  const restores = then.map((note) => note());
  return (fn) => {
    const before = notes;
    notes = then;
    const undo = restores.map((restore) => restore());
    try {
      return fn();
    } finally {
      for (const back of undo.reverse()) back();
      notes = before;
    }
  };
}
