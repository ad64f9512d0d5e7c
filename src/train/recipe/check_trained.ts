// Whether training reached every layer: an adapter whose B is zero changes nothing, however well the losses look.
import type { Lora } from "../../lora/lora.ts";

/** A note where layers' B are all zeros after training; none where all moved. */
export async function untrainedLayers(lora: Lora | null): Promise<string[]> {
  const still: string[] = [];
  for (const [path, { active }] of lora?.layers ?? []) {
    for (const { lora_B } of active) {
      const values = (await lora_B.data()) as Float32Array;
      if (values.every((v) => v === 0)) still.push(path);
    }
  }
  if (still.length === 0) return [];
  return [
    `lora_B is still zero in ${still.length} layers, such as ${still[0]}: they changed nothing`,
  ];
}
