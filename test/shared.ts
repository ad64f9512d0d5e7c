// Third-party data beside the repository, for extra tests: `shared/` in it or up to two folders above.
// Nothing of it is committed, so tests that need it are reported as skipped where it is absent.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "uvu";
import { gpuTest } from "./gpu.ts";

const root = resolve(import.meta.dirname, "..");

/** The path of something under `shared/`, or null where there is none. */
export function sharedPath(name: string): string | null {
  const places = ["shared", "../shared", "../../shared"];
  return places.map((place) => resolve(root, place, name)).find(existsSync) ?? null;
}

/** A GPU test that needs something under `shared/`. */
export function sharedTest(
  name: string,
  path: string,
  body: (path: string) => Promise<void>,
): void {
  const found = sharedPath(path);
  if (found) gpuTest(name, () => body(found));
  else test.skip(name, () => {});
}
