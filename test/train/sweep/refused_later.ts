import { is, ok } from "uvu/assert";

/** Throws unless a promise is rejected with an error of this class whose message holds all the parts. */
export async function refusedLater(
  call: () => Promise<unknown>,
  className: string,
  ...parts: string[]
): Promise<void> {
  const error = await call().then(
    () => null,
    (e: Error) => e,
  );
  ok(error, `expected ${className}, nothing was thrown`);
  is(error.name, className, error.message);
  for (const part of parts) ok(error.message.includes(part), `"${error.message}" lacks ${part}`);
}
