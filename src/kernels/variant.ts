// One entry point of a kernel as compiled for one set of constants: its pipeline and its bind groups.
import type { Gpu } from "../gpu/device.ts";
import type { Storage } from "../tensor/storage.ts";
import type { Binding } from "./wgsl_file.ts";

const MAX_BIND_GROUPS = 8192;

export class Variant {
  private groups = new Map<string, GPUBindGroup>();

  constructor(
    readonly pipeline: GPUComputePipeline,
    /** What is bound, in the order in which `bindGroup` is given storages. */
    readonly bindings: readonly Binding[],
    private readonly device: Gpu,
    private readonly layout: GPUBindGroupLayout,
  ) {}

  /** The bind group for these parts of buffers; made once. */
  bindGroup(storages: readonly Storage[]): GPUBindGroup {
    let id = "";
    for (const { block, byteOffset, byteLength } of storages) {
      id += `${block.id}+${byteOffset}:${byteLength}|`;
    }
    const known = this.groups.get(id);
    if (known) return known;
    if (this.groups.size >= MAX_BIND_GROUPS) this.groups.clear();
    const made = this.createBindGroup(storages);
    this.groups.set(id, made);
    return made;
  }

  private createBindGroup(storages: readonly Storage[]): GPUBindGroup {
    return this.device.device.createBindGroup({
      layout: this.layout,
      entries: this.bindings.map(({ index }, i) => {
        const { block, byteOffset, byteLength } = storages[i]!;
        // Whole 16-byte words, so that array<vec4> covers a ragged tail; blocks are multiples of 256.
        const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
        return { binding: index, resource: { buffer: block.buffer, offset: byteOffset, size } };
      }),
    });
  }
}
