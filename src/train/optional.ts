// Packages that only some need: loaded when they are, with an error that says how to get them.
import { LowrankError } from "../gpu/errors.ts";

/**
 * Imports an optional package.
 * @param op  what needs it, for messages
 * @param name  the package
 * @param load  imports it, by a literal name so that bundlers see it
 * @throws LowrankError with the command that installs it, where it is absent
 */
export async function optional<T>(op: string, name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const isAbsent = /MODULE_NOT_FOUND$/.test(code ?? "") && message.includes(name);
    if (!isAbsent) throw error;
    throw new LowrankError({
      op,
      arg: `the package ${name}`,
      expected: "installed",
      got: "none",
      hint: `Run: npm install ${name}`,
    });
  }
}
