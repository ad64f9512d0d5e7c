// Finds an adapter in a browser: `navigator.gpu`.
import { ADAPTER_WORDS, answersTo, classify, describe, type FoundAdapter } from "./adapter.ts";
import { DeviceError } from "./errors.ts";

/**
 * Finds an adapter.
 * @param asked `gpu`, `lavapipe`, `swiftshader`, or a part of the adapter's name.
 * @throws DeviceError where the browser has no WebGPU, no adapter, or another one than was asked for.
 */
export async function findAdapter(asked?: string): Promise<FoundAdapter> {
  const gpu = globalThis.navigator?.gpu as GPU | undefined;
  if (!gpu) {
    const why = globalThis.isSecureContext
      ? "This browser has none, or it is switched off."
      : "Browsers offer it to secure pages only: https, or localhost.";
    throw new DeviceError({ op: "init", arg: "navigator.gpu", expected: "there", hint: why });
  }
  const forceFallbackAdapter = Boolean(
    asked && asked.toLowerCase() !== "gpu" && ADAPTER_WORDS.includes(asked.toLowerCase()),
  );
  const adapter = await gpu.requestAdapter({
    powerPreference: "high-performance",
    forceFallbackAdapter,
  });
  if (!adapter) throw new DeviceError("init: the browser has WebGPU, but offers no adapter.");
  const name = describe(adapter.info);
  const adapterClass = classify(adapter.info);
  if (asked && !answersTo(asked, adapterClass, name)) {
    const got = JSON.stringify(asked);
    throw new DeviceError({ op: "init", arg: "adapter", expected: `a part of ${name}`, got });
  }
  return { adapter, adapterClass, origin: "browser", description: name, tried: [] };
}
