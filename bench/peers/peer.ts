// The runner's side of one library: its process, the questions, and the end of both.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import type { Readable } from "node:stream";
import type { Command } from "./serve.ts";

const LIMIT_MS = 240_000;
const folder = import.meta.dirname;

/** A library and the command that serves it. */
export interface Peer {
  id: string;
  command: readonly string[];
}

const node = (file: string, ...args: string[]) => [
  process.execPath,
  "--import",
  "tsx",
  file,
  ...args,
];

export const PEERS: readonly Peer[] = [
  { id: "lowrank", command: node("lowrank.ts") },
  { id: "tfjs", command: node("tfjs.mjs") },
  { id: "jax-js", command: node("jaxjs.mjs", "webgpu") },
  { id: "jax-js-wasm", command: node("jaxjs.mjs", "wasm") },
  { id: "pytorch", command: [process.env.PYTHON ?? "python3", "pytorch.py"] },
];

type Answer = { error?: string; name?: string; ms?: number };

/** A running library. */
export class PeerProcess {
  /** Name and version, as the library says. */
  name = "";
  private readonly child: ChildProcess;
  private readonly answers: Interface;
  private said = "";

  constructor(readonly peer: Peer) {
    const [program, ...args] = peer.command as [string, ...string[]];
    this.child = spawn(program, args, { cwd: folder, stdio: ["pipe", "ignore", "pipe", "pipe"] });
    this.child.stderr!.on("data", (text) => {
      this.said = `${this.said}${text}`.slice(-2000);
    });
    this.child.stdin!.on("error", () => {}); // it has ended, which ask() reports
    this.answers = createInterface({ input: this.child.stdio[3] as Readable });
  }

  /** @throws Error where the library says that it cannot, ends, or takes too long. */
  async ask(command: Command): Promise<Answer> {
    const answer = await new Promise<Answer>((resolve, reject) => {
      const ended = () => reject(new Error(`${this.peer.id} ended: ${this.said.trim()}`));
      const late = () => reject(new Error(`${this.peer.id} took more than ${LIMIT_MS / 1000} s`));
      const timer = setTimeout(late, LIMIT_MS);
      this.answers.once("close", ended);
      this.child.once("error", reject);
      this.answers.once("line", (line) => {
        clearTimeout(timer);
        this.answers.off("close", ended);
        this.child.off("error", reject);
        resolve(JSON.parse(line));
      });
      this.child.stdin!.write(`${JSON.stringify(command)}\n`);
    });
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  async open(): Promise<this> {
    this.name = (await this.ask({ do: "open" })).name!;
    return this;
  }

  kill(): void {
    this.child.kill("SIGKILL");
  }
}
