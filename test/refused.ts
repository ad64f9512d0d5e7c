// Bad input must be refused at the call, by an error that names op, argument, expected and got, and leave
// tensors, memory and work as they were.
import { equal } from "uvu/assert";
import { zeros } from "../src/tensor/create.ts";
import { theGpu, throwsLike } from "./gpu.ts";

/** A call, how `Class: message` of its error begins, and more that the message must hold. */
export type Refused = [call: () => unknown, error: string, ...parts: string[]];

/** Throws unless each call is refused as told, and leaves nothing behind. */
export function checkRefused(cases: readonly Refused[]): void {
  const account = () => {
    const { tensorsLive, bytesLive, buffersLive, dispatches } = theGpu().stats();
    return { tensorsLive, bytesLive, buffersLive, dispatches };
  };
  for (const [call, error, ...parts] of cases) {
    const before = account();
    const [className, ...message] = error.split(": ");
    throwsLike(call, className!, message.join(": "), ...parts);
    equal(account(), before, error);
  }
}

export const f32 = (...shape: number[]) => zeros(shape);
export const i32 = (...shape: number[]) => zeros(shape, "i32");

/** What a user of JavaScript can pass. */
export const anything = (x: unknown) => x as never;
