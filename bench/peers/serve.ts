// The child's side: one library in a process of its own, told what to do line by line on its standard input.
// Answers go to file descriptor 3, because libraries print what they like.
import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { findAdapter } from "../../src/gpu/entry.node.ts";
import { patiently } from "../../src/gpu/wait.ts";
import type { PeerCase } from "./cases.ts";

/** A case that a library has ready. */
export interface Prepared {
  /** So many runs, one after the other, waited for at the end where that is faster; frees what they made. */
  run: (runs: number) => Promise<unknown>;
  /** What the case computes, in the order of its kind. Called once, before any timing. */
  results: () => Promise<Float32Array[]>;
  dispose: () => void;
}

export interface Library {
  /** Name and version. */
  name: string;
  prepare: (work: PeerCase, inputs: Map<string, Float32Array>) => Promise<Prepared>;
}

export type Command =
  | { do: "open" }
  | { do: "prepare"; work: PeerCase; inputs: string; results: string }
  | { do: "time"; runs: number }
  | { do: "end" };

/** The device that a library has asked for. */
export interface Borrowed {
  device: GPUDevice | null;
  description: string;
}

/** Lets a library find our adapter where a browser has it. */
export async function borrowAdapter(): Promise<Borrowed> {
  const { adapter, description } = await findAdapter(process.env.LOWRANK_ADAPTER || undefined);
  const borrowed: Borrowed = { device: null, description };
  const requestDevice = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (options) => {
    borrowed.device = await requestDevice(options);
    return borrowed.device;
  };
  const navigator = {
    userAgent: "Node",
    platform: process.platform,
    gpu: { requestAdapter: async () => adapter, getPreferredCanvasFormat: () => "bgra8unorm" },
  };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  return borrowed;
}

/** Waits as our own stream does, so that no library pays for the binding's polling. */
export function gently<T>(promise: Promise<T>): Promise<T> {
  return patiently(promise, process.env.PEERS_NAPS !== "0");
}

/** Reads a case's inputs from the file that the runner wrote. */
function readInputs(work: PeerCase, path: string): Map<string, Float32Array> {
  const bytes = readFileSync(path);
  let at = bytes.byteOffset;
  return new Map(
    work.inputs.map(({ name, shape }) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const values = new Float32Array(bytes.buffer.slice(at, at + 4 * count));
      at += 4 * count;
      return [name, values];
    }),
  );
}

/** Serves until the runner closes the pipe. */
export async function serve(open: () => Promise<Library>): Promise<void> {
  let library: Library | null = null;
  let ready: Prepared | null = null;
  const obey = async (command: Command): Promise<object> => {
    switch (command.do) {
      case "open":
        library = await open();
        return { name: library.name };
      case "prepare": {
        ready = await library!.prepare(command.work, readInputs(command.work, command.inputs));
        const results = await ready.results();
        const bytes = results.map((r) => Buffer.from(r.buffer, r.byteOffset, r.byteLength));
        writeFileSync(command.results, Buffer.concat(bytes));
        return {};
      }
      case "time": {
        const began = performance.now();
        await ready!.run(command.runs);
        return { ms: (performance.now() - began) / command.runs };
      }
      case "end":
        ready?.dispose();
        ready = null;
        return {};
    }
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await obey(JSON.parse(line)).catch((error: unknown) => ({
      error: String((error as Error)?.stack ?? error),
    }));
    writeSync(3, `${JSON.stringify(answer)}\n`);
  }
  process.exit();
}
