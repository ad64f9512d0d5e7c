import { readFileSync } from "node:fs";

/** The version in package.json; it lies two folders up from src/train and from dist/train. */
export function version(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
