// Paths on the command line are meant from where the user stands. `npm run` starts scripts in the package's
// folder, and tells where it was called.
import { resolve } from "node:path";

/**
 * A path of the command line, absolute.
 * @param script  the name under which npm runs the script; what another one left in the environment is not meant
 */
export function fromHere(script: string, path: string): string {
  const { INIT_CWD, npm_lifecycle_event } = process.env;
  return resolve(npm_lifecycle_event === script && INIT_CWD ? INIT_CWD : ".", path);
}
