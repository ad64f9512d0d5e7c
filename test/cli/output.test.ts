// Bars and notes as a terminal gets them.
import { test } from "uvu";
import { is, match, not } from "uvu/assert";
import { Output } from "../../src/cli/output.ts";

/** What a body writes to stderr, as to a terminal or to a file. */
function written(isTerminal: boolean, body: () => void): string {
  const { write, isTTY } = process.stderr;
  let text = "";
  process.stderr.write = ((part: string) => {
    text += part;
    return true;
  }) as typeof write;
  process.stderr.isTTY = isTerminal;
  try {
    body();
    return text;
  } finally {
    process.stderr.write = write;
    process.stderr.isTTY = isTTY;
  }
}

test("a note takes the place of a bar, which ends below it: nothing is written over", () => {
  const output = new Output();
  const text = written(true, () => {
    const bar = output.bar("work", 4);
    bar.update(1);
    output.note("\nEnds after this step.");
    bar.end();
    output.note("saving …");
  });
  const SAVE = "\x1b7";
  const RESTORE = "\x1b8";
  const note = text.indexOf("\r\x1b[KEnds after this step.\n\x1b7");
  is(note > text.indexOf("work"), true, JSON.stringify(text));
  const below = text.slice(note);
  is(below.lastIndexOf(SAVE) < below.indexOf("work █"), true, "the bar is drawn below the note");
  match(below, /work █+░+ 1\/4/);
  is(text.endsWith(`${RESTORE}\nsaving …\n`), true);
  is(text.split(RESTORE).length, 2);
});

test("on what is no terminal each is a line; what is left to do is ? until it is known", () => {
  const output = new Output();
  const text = written(false, () => {
    const bar = output.bar("trials", 6);
    bar.update(0, "trial 0 step 9/9");
    output.note("\ntrial 0 failed");
    bar.end();
  });
  is(text.replace(/[█░]+/g, "#"), "trials # 0/6  0s eta ?\ntrial 0 failed\ntrials # 0/6 trial 0 step 9/9 0s eta ?\n"); // biome-ignore format: one line
  not.match(text, "\x1b");
});

test.run();
