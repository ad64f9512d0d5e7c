// What an adapter is: shared by the entries for Node and for browsers.

/** What kind of device it is; kernels are chosen by it. `software`: neither of the two known ones. */
export type AdapterClass = "gpu" | "lavapipe" | "swiftshader" | "software";

/** An adapter and how it was found. */
export interface FoundAdapter {
  adapter: GPUAdapter;
  adapterClass: AdapterClass;
  /** Where it came from: a GPU, a software device of the system, npm's SwiftShader, the browser. */
  origin: "gpu" | "installed" | "embedded" | "browser";
  /** One line for people: name and driver. */
  description: string;
  /** What was looked at before it, and why it was not taken. */
  tried: string[];
}

/** The words that `init({ adapter })` and `LOWRANK_ADAPTER` understand besides an adapter's name. */
export const ADAPTER_WORDS: readonly string[] = ["gpu", "lavapipe", "swiftshader"];

type Info = Pick<GPUAdapterInfo, "vendor" | "architecture" | "device" | "description"> & {
  readonly isFallbackAdapter?: boolean;
};

/** Tells a real GPU from the software devices by what the adapter says of itself. */
export function classify(info: Info): AdapterClass {
  const text = describe(info).toLowerCase();
  if (text.includes("llvmpipe")) return "lavapipe";
  if (text.includes("swiftshader")) return "swiftshader";
  if (info.isFallbackAdapter || text.includes("basic render")) return "software";
  return "gpu";
}

/** All that the adapter says of itself, in one line. */
export function describe(info: Info): string {
  const parts = [info.vendor, info.architecture, info.device, info.description];
  return parts.filter(Boolean).join(", ") || "an adapter without a name";
}

/** True where `asked` is the adapter's class or a part of its name. */
export function answersTo(asked: string, adapterClass: AdapterClass, name: string): boolean {
  const word = asked.toLowerCase();
  if (ADAPTER_WORDS.includes(word)) return adapterClass === word;
  return name.toLowerCase().includes(word);
}
