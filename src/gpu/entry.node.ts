// interim stub: the machine helper overwrites this
import { create, globals } from "webgpu";
import type { FoundAdapter } from "./adapter.ts";

Object.assign(globalThis, globals);
export async function findAdapter(request?: string): Promise<FoundAdapter> {
  const gpu = create(["enable-dawn-features=allow_unsafe_apis"]);
  const adapter = (await gpu.requestAdapter())!;
  return {
    adapter,
    adapterClass: "lavapipe",
    origin: "installed",
    description: adapter.info.description,
    tried: [request ?? ""],
  };
}
