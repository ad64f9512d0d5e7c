// Adapters: `import { addLora, saveAdapter } from "lowrank/lora"`.
export { type LoraConfig, scaleOf } from "./config.ts";
export { addLora, Lora } from "./lora.ts";
export { LoraLayer } from "./lora_layer.ts";
export { loadAdapter, peftStateDict, saveAdapter } from "./peft.ts";
