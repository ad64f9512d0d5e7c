// The bind groups of a device: made once for the same parts of buffers, shared by all pipelines of one
// layout, and bounded.
import type { Gpu } from "../gpu/device.ts";
import type { Storage } from "../tensor/storage.ts";
import type { Binding } from "./wgsl_file.ts";

/**
 * Bind groups that are held at most. lavapipe maps memory for each, a process may have 65,530 maps, and
 * past that it crashes; collected ones are given back late.
 */
const MOST = { gpu: 65_536, lavapipe: 4096, swiftshader: 4096, software: 4096 };

/** What an entry point binds, in the order in which storages are given. */
export interface Layout {
  id: number;
  bindings: readonly Binding[];
  made: GPUBindGroupLayout;
}

const ofDevices = new WeakMap<Gpu, BindGroups>();

export class BindGroups {
  private readonly layouts = new Map<string, Layout>();
  private readonly groups = new Map<string, GPUBindGroup>();

  private constructor(private readonly device: Gpu) {}

  static of(device: Gpu): BindGroups {
    const known = ofDevices.get(device);
    if (known) return known;
    const made = new BindGroups(device);
    ofDevices.set(device, made);
    return made;
  }

  /** How many are held. */
  get size(): number {
    return this.groups.size;
  }

  /** The layout of these bindings; entry points that bind alike share it. */
  layout(bindings: readonly Binding[]): Layout {
    const label = `layout ${bindings.map((b) => `${b.index}${b.writes ? "w" : "r"}`).join(",")}`;
    const known = this.layouts.get(label);
    if (known) return known;
    const made = this.device.device.createBindGroupLayout({
      label,
      entries: bindings.map((b) => ({
        binding: b.index,
        visibility: 4,
        buffer: { type: b.writes ? ("storage" as const) : ("read-only-storage" as const) },
      })),
    });
    const layout = { id: this.layouts.size, bindings, made };
    this.layouts.set(label, layout);
    return layout;
  }

  /** The bind group for these parts of buffers. Where there are too many all are dropped, and made again at need. */
  group(layout: Layout, storages: readonly Storage[]): GPUBindGroup {
    let id = `${layout.id}`;
    for (const { block, byteOffset, byteLength } of storages) {
      id += `|${block.id}+${byteOffset}:${byteLength}`;
    }
    const known = this.groups.get(id);
    if (known) return known;
    if (this.groups.size >= MOST[this.device.adapterClass]) this.groups.clear();
    const made = this.create(layout, storages);
    this.groups.set(id, made);
    return made;
  }

  private create({ bindings, made }: Layout, storages: readonly Storage[]): GPUBindGroup {
    return this.device.device.createBindGroup({
      layout: made,
      entries: bindings.map(({ index }, i) => {
        const { block, byteOffset, byteLength } = storages[i]!;
        // Whole 16-byte words, so that array<vec4> covers a ragged tail; blocks are multiples of 256.
        const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
        return { binding: index, resource: { buffer: block.buffer, offset: byteOffset, size } };
      }),
    });
  }
}
