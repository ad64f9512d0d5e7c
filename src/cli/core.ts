// What the command can do with the core alone, without the packages that are installed by default.

import { version } from "../train/version.ts";
import { doctor } from "./doctor.ts";
import { UsageError } from "./errors.ts";

/** `lowrank --version` and `lowrank doctor`; anything else says what to install. */
export async function runCore(args: readonly string[]): Promise<number> {
  const call = args.join(" ");
  if (call === "--version") {
    console.log(version());
    return 0;
  }
  if (call === "doctor") return doctor();
  if (call === "doctor --commands") return doctor("commands");
  throw new UsageError({
    op: "lowrank",
    arg: "the package commander",
    expected: "installed",
    got: "none",
    hint:
      "Run: npm install commander yaml zod cli-progress\n" +
      "Without it there is lowrank --version, lowrank doctor and lowrank doctor --commands.",
  });
}
