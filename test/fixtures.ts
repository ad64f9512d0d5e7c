// Fixtures that PyTorch, Transformers and PEFT wrote: see test/fixtures/README.md.
import { join } from "node:path";
import { loadSafetensors } from "../src/tensor/safetensors_file.ts";
import type { Tensor } from "../src/tensor/tensor.ts";

export const fixtureFolder = (name: string): string => join(import.meta.dirname, "fixtures", name);

/** The figures beside a fixture, by name; free them with `free`. */
export async function expectedOf(
  name: string,
): Promise<{ get: (key: string) => Tensor; keys: string[]; free: () => void }> {
  const tensors = await loadSafetensors(`${fixtureFolder(name)}/expected.safetensors`);
  return {
    get: (key) => {
      const t = tensors.get(key);
      if (!t) throw new Error(`the fixture ${name} holds no ${key}`);
      return t;
    },
    keys: [...tensors.keys()],
    free: () => {
      for (const t of tensors.values()) t.dispose();
    },
  };
}
