// quantization_config of a config.json: what bitsandbytes and Transformers write there, and what is read of it.
import type { QuantizedType } from "../tensor/quantized.ts";
import type { ConfigReader } from "./config_reader.ts";

/** What stands in config.json beside quantised weights, so that Transformers loads them with bitsandbytes. */
export function quantizationConfig(type: QuantizedType, computeType: string): object {
  const quant_method = "bitsandbytes";
  if (type === "int8") return { quant_method, load_in_8bit: true };
  return {
    quant_method,
    load_in_4bit: true,
    bnb_4bit_quant_type: "nf4",
    bnb_4bit_use_double_quant: true,
    bnb_4bit_quant_storage: "uint8",
    bnb_4bit_compute_dtype: computeType,
  };
}

/** Fields that say how Transformers computes or which layers it skipped: the weights themselves tell that. */
const NEUTRAL = [
  ..."bnb_4bit_compute_dtype llm_int8_threshold llm_int8_skip_modules".split(" "),
  ..."llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight".split(" "),
  ..."_load_in_4bit _load_in_8bit".split(" "),
];

/**
 * Notes what cannot be read: another method than bitsandbytes, and of that, other kinds than int8 and NF4 with double
 * quantisation. Without the field the model is not quantised.
 */
export function checkQuantization(config: ConfigReader, ignored: readonly string[]): void {
  const r = config.object("quantization_config");
  if (!r || ignored.includes("quantization_config")) return;
  const method = r.raw("quant_method");
  if (method !== "bitsandbytes") {
    config.refuse("quantization_config.quant_method", '"bitsandbytes"', method);
    return;
  }
  const [in4, in8] = [r.flag("load_in_4bit", false), r.flag("load_in_8bit", false)];
  if (in4 === in8) r.refuse("load_in_4bit", "true, or load_in_8bit", in4);
  const type = r.raw("bnb_4bit_quant_type");
  const isDouble = r.flag("bnb_4bit_use_double_quant", false);
  const storage = r.raw("bnb_4bit_quant_storage") ?? "uint8";
  for (const name of NEUTRAL) r.raw(name);
  if (in4) {
    if (type !== "nf4") r.refuse("bnb_4bit_quant_type", '"nf4"', type);
    if (!isDouble) r.refuse("bnb_4bit_use_double_quant", "true", isDouble);
    if (storage !== "uint8") r.refuse("bnb_4bit_quant_storage", '"uint8"', storage);
  }
  config.absorb(r, new Set(ignored));
}
