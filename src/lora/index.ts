// Adapters: `import { addLora, saveAdapter } from "lowrank/lora"`.
export {
  type LayerCertificate,
  type MergeCertificate,
  mergeWithCertificate,
  saveMerged,
} from "./certificate.ts";
export type { CombinationType, MajoritySign } from "./combine.ts";
export { type CompleteLoraConfig, type LoraConfig, type LoraInit, scaleOf } from "./config.ts";
export { addDecomposedLora, addLora, BASE, Lora } from "./lora.ts";
export { LoraFA, type LoraFAOptions } from "./lora_fa.ts";
export { LoraLayer } from "./lora_layer.ts";
export { type LoraPlusOptions, loraPlusGroups } from "./lora_plus.ts";
export { LoraWeights } from "./lora_weights.ts";
export { mergeFolder } from "./merge_folder.ts";
export {
  loadAdapter,
  peftStateDict,
  type SaveAdapterOptions,
  saveAdapter,
} from "./peft.ts";
export { SavedModule } from "./saved_module.ts";
export { type SideBySide, sideBySideLoss } from "./side_by_side.ts";
export { swapAdapter } from "./swap.ts";
export { addWeightedAdapter, type WeightedOptions } from "./weighted.ts";
