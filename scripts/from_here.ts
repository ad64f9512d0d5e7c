// Paths on the command line are meant from where the user stands. `npm run` starts scripts in the package's
// folder, and tells where it was called.
import { resolve } from "node:path";

/** A path of the command line, absolute. */
export function fromHere(path: string): string {
  return resolve(process.env.INIT_CWD ?? ".", path);
}
