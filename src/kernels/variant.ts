// One entry point of a kernel as compiled for one set of constants: its pipeline and its bind groups.
import type { Gpu } from "../gpu/device.ts";
import type { Storage } from "../tensor/storage.ts";
import type { Binding } from "./wgsl_file.ts";

/**
 * Bind groups that a device holds at most, of all variants together. lavapipe maps memory for each, a
 * process may have 65,530 maps, and past that it crashes; collected ones are given back late.
 */
const MOST_BIND_GROUPS = { gpu: 65_536, lavapipe: 4096, swiftshader: 4096, software: 4096 };

/** The variants of a device that hold bind groups, and how many they hold. */
const holders = new WeakMap<Gpu, { count: number; variants: Set<Variant> }>();

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
    this.makeRoom();
    const made = this.createBindGroup(storages);
    this.groups.set(id, made);
    return made;
  }

  /** Counts one more; where there are too many, all are dropped, and those in use made again. */
  private makeRoom(): void {
    let held = holders.get(this.device);
    if (!held) {
      held = { count: 0, variants: new Set() };
      holders.set(this.device, held);
    }
    if (held.count >= MOST_BIND_GROUPS[this.device.adapterClass]) {
      for (const variant of held.variants) variant.groups.clear();
      held.variants.clear();
      held.count = 0;
    }
    held.variants.add(this);
    held.count += 1;
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
