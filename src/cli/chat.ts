// The chat of `lowrank generate --interactive`: lines in, answers out, commands that begin with a slash.
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { LowrankError, ValueError } from "../gpu/errors.ts";
import { nearest } from "../lora/nearest.ts";
import type { Answer, ChatSession } from "../train/chat/session.ts";

/** What a command does; what it returns is said. */
interface ChatCommand {
  /** What stands behind its name, such as `NAME`. */
  takes: string;
  about: string;
  run(session: ChatSession, argument: string): string;
}

type NumberName = "temperature" | "topK" | "topP" | "minP" | "repetitionPenalty" | "maxNewTokens" | "seed"; // biome-ignore format: one line

function setting(
  shown: string,
  name: NumberName,
  about: string,
  good: (v: number) => boolean,
  expected: string,
): ChatCommand {
  // biome-ignore format: one line
  return {
    takes: "N",
    about,
    run({ settings }, argument) {
      if (argument === "") return `${shown} is ${settings[name] ?? "the usual"}.`;
      const value = Number(argument);
      if (!good(value)) throw new ValueError({ op: "chat", arg: shown, expected, got: argument });
      settings[name] = value;
      return `${shown} is ${value} now.`;
    },
  };
}

const isCount = (v: number) => Number.isSafeInteger(v) && v > 0;
const isShare = (v: number) => v > 0 && v <= 1;

const COMMANDS: Readonly<Record<string, ChatCommand>> = {
  help: { takes: "", about: "shows this", run: () => helpText() },
  adapters: { takes: "", about: "lists the adapters; * marks who answers", run: adaptersText },
  adapter: {
    takes: "NAME",
    about: "lets an adapter answer from now on; a,b: their sum; base: none",
    run(session, argument) {
      if (argument === "") return adaptersText(session);
      session.use(argument);
      const verb = session.active.length > 1 ? "answer" : "answers";
      return `${whoAnswers(session)} ${verb} now.`;
    },
  },
  reset: {
    takes: "",
    about: "forgets all turns",
    run(session) {
      session.reset();
      return "All turns are forgotten.";
    },
  },
  system: {
    takes: "TEXT",
    about: "tells the system something first; alone: nothing",
    run({ settings }, argument) {
      if (argument === "") delete settings.system;
      else settings.system = argument;
      return argument === "" ? "The system is told nothing." : "The system is told that first.";
    },
  },
  temperature: setting("temperature", "temperature", "0: the likeliest token; higher: more surprising", (v) => v >= 0 && v < Infinity, "a number of at least 0"), // biome-ignore format: one line
  "top-k": setting(
    "top-k",
    "topK",
    "draws among the k likeliest tokens",
    isCount,
    "a positive integer",
  ),
  "top-p": setting("top-p", "topP", "draws among the tokens that together hold this probability", isShare, "in (0, 1]"), // biome-ignore format: one line
  "min-p": setting("min-p", "minP", "draws among tokens at least this many times as likely as the likeliest", (v) => v >= 0 && v <= 1, "in [0, 1]"), // biome-ignore format: one line
  penalty: setting("penalty", "repetitionPenalty", "above 1: repeats less", (v) => v > 0 && v < Infinity, "a number above 0"), // biome-ignore format: one line
  max: setting("max", "maxNewTokens", "most tokens of an answer", isCount, "a positive integer"),
  seed: setting("seed", "seed", "the same seed gives the same answers", (v) => Number.isSafeInteger(v) && v >= 0, "an integer of at least 0"), // biome-ignore format: one line
  quit: { takes: "", about: "leaves; so does Ctrl-D", run: () => "" },
};

function helpText(): string {
  const lines = Object.entries(COMMANDS).map(
    ([name, { takes, about }]) => `  ${`/${name} ${takes}`.padEnd(16)}${about}`,
  );
  return `${lines.join("\n")}\nCtrl-C stops an answer. A line that ends with \\ goes on in the next.`;
}

function whoAnswers({ active }: ChatSession): string {
  return active.length > 0 ? active.join(" + ") : "base";
}

function adaptersText(session: ChatSession): string {
  const { adapters, active } = session;
  const line = (name: string, is: boolean) => `${is ? "*" : " "} ${name}`;
  return [
    ...adapters.map((name) => line(name, active.includes(name))),
    line("base", active.length === 0),
  ].join("\n");
}

export interface ChatStreams {
  input: Readable & { isTTY?: boolean };
  /** Gets the answers, and on a terminal everything else. */
  output: Writable;
  /** Gets what is no answer where the input is no terminal. */
  notes: Writable;
}

/**
 * Talks until the input ends or says /quit.
 * @returns how many answers there were
 */
export async function chat(session: ChatSession, streams: ChatStreams): Promise<number> {
  const { input, output, notes } = streams;
  const terminal = Boolean(input.isTTY);
  const note = (text: string) => void (terminal ? output : notes).write(`${text}\n`);
  const lines = createInterface({ input, ...(terminal ? { output } : {}), terminal });
  const stopper = new Stopper(() => {
    note("");
    lines.close();
  });
  lines.on("SIGINT", () => stopper.press());
  process.on("SIGINT", stopper.press);
  const ask = (text: string) => {
    if (!terminal) return;
    lines.setPrompt(text);
    lines.prompt();
  };
  let [answers, held] = [0, ""];
  try {
    ask(`${whoAnswers(session)}> `);
    for await (const line of lines) {
      if (line.endsWith("\\")) {
        held += `${line.slice(0, -1)}\n`;
        ask("… ");
        continue;
      }
      const said = held + line;
      held = "";
      if (/^\/(quit|exit)\s*$/.test(said)) break;
      if (said.startsWith("/")) note(obey(session, said));
      else if (said.trim() !== "") {
        answers += await speak(session, said, { output, note, signal: () => stopper.begin() });
        stopper.end();
      }
      ask(`${whoAnswers(session)}> `);
    }
    return answers;
  } finally {
    process.off("SIGINT", stopper.press);
    lines.close();
  }
}

/** What Ctrl-C does: the answer that runs ends; where none does, the chat. */
class Stopper {
  private running: AbortController | null = null;

  constructor(private readonly leave: () => void) {}

  begin(): AbortSignal {
    this.running = new AbortController();
    return this.running.signal;
  }

  end(): void {
    this.running = null;
  }

  readonly press = (): void => {
    if (this.running) this.running.abort();
    else this.leave();
  };
}

function obey(session: ChatSession, line: string): string {
  const [, name = "", argument = ""] = line.match(/^\/(\S*)\s*(.*)$/s) ?? [];
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    return `chat: there is no /${name}. Did you mean /${nearest(name, Object.keys(COMMANDS))}? See /help.`; // biome-ignore format: one line
  }
  try {
    return command.run(session, argument.trim());
  } catch (error) {
    if (error instanceof LowrankError) return error.message;
    throw error;
  }
}

interface Speaking {
  output: Writable;
  note: (text: string) => void;
  signal: () => AbortSignal;
}

/** Writes an answer. 1, or 0 where there was none. */
async function speak(session: ChatSession, said: string, { output, note, signal }: Speaking) {
  try {
    const pieces = session.answer(said, signal());
    for (let next = await pieces.next(); ; next = await pieces.next()) {
      if (next.done) {
        output.write("\n");
        const remark = remarkOn(next.value);
        if (remark) note(remark);
        return 1;
      }
      output.write(next.value);
    }
  } catch (error) {
    if (!(error instanceof LowrankError)) throw error;
    note(error.message);
    return 0;
  }
}

function remarkOn({ ended, dropped, tokens }: Answer): string {
  const remarks = [
    ended === "aborted" ? "stopped" : "",
    ended === "length" ? `ended after ${tokens} tokens; /max N allows more` : "",
    dropped > 0 ? "the oldest turns no longer fit the context and were left out" : "",
  ].filter((text) => text !== "");
  return remarks.length > 0 ? `(${remarks.join("; ")})` : "";
}
