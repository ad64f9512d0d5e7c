export type AdapterClass = "gpu" | "lavapipe" | "swiftshader" | "software";
export interface FoundAdapter {
  adapter: GPUAdapter;
  adapterClass: AdapterClass;
  origin: "asked" | "gpu" | "installed" | "embedded";
  description: string;
  tried: string[];
}
