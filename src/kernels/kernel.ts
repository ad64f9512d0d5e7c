// kernel(): a WGSL file made callable. Bindings and parameters are read from the WGSL itself.
import { type Gpu, gpu } from "../gpu/device.ts";
import { LimitError, ValueError } from "../gpu/errors.ts";
import { checkDevice, type Tensor } from "../tensor/tensor.ts";
import { sources } from "./sources.ts";
import { type Defines, specialize } from "./specialize.ts";

interface Binding {
  name: string;
  index: number;
  writes: boolean;
}

interface Field {
  name: string;
  type: "u32" | "i32" | "f32";
}

export interface Launch {
  /** Tensors by the names of the `@group(0)` storage variables that this entry point uses. */
  tensors: Readonly<Record<string, Tensor>>;
  /** Values for every field of `struct Params`. */
  params?: Readonly<Record<string, number>>;
  /** Number of workgroups in x, y and z. */
  groups: readonly [number, number?, number?];
  /** Values for `override` declarations. */
  constants?: Readonly<Record<string, number>>;
  /** Values for top-level `const` and `alias` lines. */
  defines?: Defines;
  /** What the dispatch is called in profiles. Default: the entry point. */
  label?: string;
}

const PARAMS_LINE = /^var<immediate> +params *: *Params *;/m;
const MAX_PARAM_BYTES = 64;

/** A WGSL module with its entry points. Make one per file with `kernel()`. */
export class Kernel {
  readonly bindings: ReadonlyMap<string, Binding>;
  readonly fields: readonly Field[];

  constructor(
    readonly name: string,
    readonly source: string,
  ) {
    this.bindings = readBindings(source);
    this.fields = readParams(name, source);
  }

  /**
   * Records one dispatch of `entry`.
   * @throws ValueError for unknown names of tensors, parameters or constants.
   */
  run(entry: string, launch: Launch): void {
    const device = gpu(entry);
    device.stream.throwFailure(entry);
    const names = Object.keys(launch.tensors);
    const bound = names.map((name) => this.binding(entry, name));
    const groups = checkGroups(entry, device, launch.groups);
    const { pipeline, layout, layoutId } = this.pipeline(device, entry, bound, launch);
    const tensors = Object.values(launch.tensors);
    for (const t of tensors) checkDevice(entry, t);
    const params = this.pack(entry, launch.params ?? {});
    device.stream.dispatch({
      label: launch.label ?? entry,
      pipeline,
      bindGroup: bindGroup(device, layout, layoutId, bound, tensors),
      params,
      groups,
      blocks: tensors.map((t) => t.storage.block),
    });
    bound.forEach((b, i) => {
      if (b.writes) tensors[i]!.storage.touch();
    });
  }

  private binding(entry: string, name: string): Binding {
    const found = this.bindings.get(name);
    if (found) return found;
    const known = [...this.bindings.keys()].join(", ");
    throw new ValueError({ op: entry, arg: "tensors", expected: `named ${known}`, got: name });
  }

  private pipeline(device: Gpu, entry: string, bound: readonly Binding[], launch: Launch) {
    const shape = bound.map((b) => `${b.index}${b.writes ? "w" : "r"}`).join(",");
    const layoutId = `layout ${shape}`;
    const layout = cached(device, layoutId, () =>
      device.device.createBindGroupLayout({
        label: layoutId,
        entries: bound.map((b) => ({
          binding: b.index,
          visibility: 4,
          buffer: { type: b.writes ? ("storage" as const) : ("read-only-storage" as const) },
        })),
      }),
    );
    const variant = JSON.stringify([launch.constants ?? 0, launch.defines ?? 0]);
    const id = `pipeline ${this.name} ${entry} ${variant} ${shape}`;
    const pipeline = cached(device, id, () => {
      const immediateSize = device.immediates ? this.fields.length * 4 : 0;
      const { paramLayout } = device.stream;
      const bindGroupLayouts =
        paramLayout && this.fields.length > 0 ? [layout, paramLayout] : [layout];
      return device.device.createComputePipeline({
        label: entry,
        layout: device.device.createPipelineLayout({ bindGroupLayouts, immediateSize }),
        compute: {
          module: this.module(device, launch.defines ?? {}),
          entryPoint: entry,
          ...(launch.constants ? { constants: launch.constants } : {}),
        },
      });
    });
    return { pipeline, layout, layoutId };
  }

  private module(device: Gpu, defines: Defines): GPUShaderModule {
    const id = `module ${this.name} ${JSON.stringify(defines)}`;
    return cached(device, id, () => {
      const code = complete(this.name, this.source, defines, device.immediates);
      return device.device.createShaderModule({ label: this.name, code });
    });
  }

  private pack(entry: string, values: Readonly<Record<string, number>>): Uint32Array<ArrayBuffer> {
    const words = new Uint32Array(this.fields.length);
    const view = new DataView(words.buffer);
    const given = Object.keys(values).length;
    this.fields.forEach(({ name, type }, i) => {
      const value = values[name];
      if (value === undefined) throw this.wrongParams(entry, `no ${name}`);
      if (type === "f32") view.setFloat32(4 * i, value, true);
      else words[i] = value;
    });
    if (given > this.fields.length) throw this.wrongParams(entry, Object.keys(values).join(", "));
    return words;
  }

  private wrongParams(entry: string, got: string): ValueError {
    const expected = `exactly ${this.fields.map((f) => f.name).join(", ") || "none"}`;
    return new ValueError({ op: entry, arg: "params", expected, got });
  }
}

/**
 * Makes a WGSL module callable: `kernel("scale", wgsl).run("scale_forward", { … })`.
 *
 * Storage variables are bound by name. Parameters, if any, are declared as
 * `struct Params { n: u32, … }` (at most 16 scalars of u32, i32 or f32) and
 * `var<immediate> params: Params;`. A first line `// requires: philox` adds the random generator.
 */
export function kernel(name: string, source: string): Kernel {
  return new Kernel(name, source);
}

/** The kernel of one of the library's own files. */
export function ownKernel(name: keyof typeof sources): Kernel {
  return new Kernel(name, sources[name]);
}

/** A grid for `n` workgroups that respects the limit per dimension; kernels flatten x and y again. */
export function grid(n: number): [number, number] {
  const limit = 65535;
  if (n <= limit) return [n, 1];
  const y = Math.ceil(n / limit);
  return [Math.ceil(n / y), y];
}

/** The text that the device compiles: defaults replaced, generator added, parameters placed. */
export function complete(
  name: string,
  source: string,
  defines: Defines,
  immediates: boolean,
): string {
  let code = specialize(name, source, defines);
  if (/^\/\/ requires: philox/.test(source)) code += sources["lib/philox"];
  if (Object.values(defines).includes("f16")) code = `enable f16;\n${code}`;
  if (immediates) return code;
  return code.replace(PARAMS_LINE, "@group(1) @binding(0) var<uniform> params: Params;");
}

function readBindings(source: string): Map<string, Binding> {
  const bindings = new Map<string, Binding>();
  const line =
    /@group\(0\)\s*@binding\((\d+)\)\s*var<storage(?:\s*,\s*(read_write|read))?>\s*(\w+)\s*:/g;
  for (const [, index, access, name] of source.matchAll(line)) {
    bindings.set(name!, { name: name!, index: Number(index), writes: access === "read_write" });
  }
  return bindings;
}

function readParams(name: string, source: string): Field[] {
  if (!PARAMS_LINE.test(source)) return [];
  const body = source.match(/struct Params\s*\{([^}]*)\}/)?.[1] ?? "";
  const fields = [...body.matchAll(/^\s*(\w+)\s*:\s*(u32|i32|f32)\s*,/gm)].map(
    ([, field, type]) => ({ name: field!, type: type as Field["type"] }),
  );
  if (fields.length > 0 && fields.length * 4 <= MAX_PARAM_BYTES) return fields;
  throw new LimitError({
    op: name,
    arg: "struct Params",
    expected: "1 to 16 lines `name: u32|i32|f32,`",
    got: `${fields.length}`,
  });
}

function checkGroups(
  entry: string,
  device: Gpu,
  groups: Launch["groups"],
): [number, number, number] {
  const [x, y = 1, z = 1] = groups;
  const limit = device.limits.maxComputeWorkgroupsPerDimension;
  if (x <= limit && y <= limit && z <= limit) return [x, y, z];
  throw new LimitError({
    op: entry,
    arg: "groups",
    expected: `at most ${limit} in each dimension`,
    got: `[${x}, ${y}, ${z}]`,
  });
}

const MAX_BIND_GROUPS = 8192;

function bindGroup(
  device: Gpu,
  layout: GPUBindGroupLayout,
  layoutId: string,
  bound: readonly Binding[],
  tensors: readonly Tensor[],
): GPUBindGroup {
  let id = layoutId;
  for (const { storage } of tensors) {
    id += `|${storage.block.id}+${storage.byteOffset}:${storage.byteLength}`;
  }
  const groups = cached(device, "bind groups", () => new Map<string, GPUBindGroup>());
  const known = groups.get(id);
  if (known) return known;
  if (groups.size >= MAX_BIND_GROUPS) groups.clear();
  const made = device.device.createBindGroup({
    label: layoutId,
    layout,
    entries: bound.map((b, i) => {
      const { block, byteOffset, byteLength } = tensors[i]!.storage;
      // Whole 16-byte words, so that array<vec4> covers a ragged tail; blocks are multiples of 256.
      const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
      return { binding: b.index, resource: { buffer: block.buffer, offset: byteOffset, size } };
    }),
  });
  groups.set(id, made);
  return made;
}

function cached<T>(device: Gpu, id: string, make: () => T): T {
  const known = device.cache.get(id);
  if (known !== undefined) return known as T;
  const made = make();
  // What Dawn refuses it refuses at once. Recorded, it would spoil all other work of its encoder.
  device.stream.throwFailure("kernel");
  device.cache.set(id, made);
  return made;
}
