// kernel(): a WGSL file made callable. Bindings and parameters are read from the WGSL itself.
import { type Gpu, gpu } from "../gpu/device.ts";
import { LimitError, ValueError } from "../gpu/errors.ts";
import type { Work } from "../gpu/profiler.ts";
import { activeRecording } from "../gpu/recording.ts";
import type { Storage } from "../tensor/storage.ts";
import { checkDevice, type Tensor } from "../tensor/tensor.ts";
import { BindGroups, type Layout } from "./bind_groups.ts";
import { Params, type ParamValues } from "./params.ts";
import { sources } from "./sources.ts";
import type { Defines } from "./specialize.ts";
import { type Binding, complete, type Field, readBindings, readFields } from "./wgsl_file.ts";

type Constants = Readonly<Record<string, number>>;

export interface Launch {
  /** Tensors by the names of the `@group(0)` storage variables that this entry point uses. */
  tensors: Readonly<Record<string, Tensor>>;
  /** Values for every field of `struct Params`; functions for those that differ in each replay. */
  params?: ParamValues;
  /** Number of workgroups in x, y and z. */
  groups: readonly [number, number?, number?];
  /** Values for `override` declarations. */
  constants?: Constants;
  /** Values for top-level `const` and `alias` lines. */
  defines?: Defines;
  /** What the dispatch is called in profiles. Default: the entry point. */
  label?: string;
  /** Floating-point operations, for profiles. Default: one for each element of the largest tensor. */
  flops?: number | (() => number);
  /** Bytes that must be read and written, for profiles. Default: those of every tensor once. */
  bytes?: number;
}

/** An entry point as compiled for one set of constants. */
interface Variant {
  pipeline: GPUComputePipeline;
  layout: Layout;
}

const NONE = {};

/** What was made of a kernel for one device. */
interface Compiled {
  device: Gpu;
  variants: Map<string, Variant>;
  modules: Map<string, GPUShaderModule>;
}

/** A WGSL module with its entry points. Make one per file with `kernel()`. */
export class Kernel {
  readonly bindings: ReadonlyMap<string, Binding>;
  readonly fields: readonly Field[];
  private readonly params: Params;
  private compiled: Compiled | null = null;

  constructor(
    readonly name: string,
    readonly source: string,
  ) {
    this.bindings = readBindings(source);
    this.fields = readFields(name, source);
    this.params = new Params(this.fields);
  }

  /**
   * Records one dispatch of `entry`.
   * @throws ValueError for unknown names of tensors, parameters or constants.
   */
  run(entry: string, launch: Launch): void {
    const device = gpu(entry);
    device.stream.throwFailure(entry);
    const groups = checkGroups(entry, device, launch.groups);
    const { pipeline, layout } = this.variant(device, entry, launch);
    const storages = storagesOf(entry, launch.tensors);
    const { words, repack } = this.params.pack(entry, launch.params ?? NONE);
    device.stream.dispatch({
      label: launch.label ?? entry,
      pipeline,
      bindGroup: BindGroups.of(device).group(layout, storages),
      params: words,
      groups,
      blocks: storages.map((s) => s.block),
      work: device.stream.profiler || activeRecording() ? workOf(launch) : null,
      repack,
    });
    layout.bindings.forEach(({ writes }, i) => {
      if (writes) storages[i]!.touch();
    });
  }

  /** The compiled form of an entry point for these names and constants. */
  private variant(device: Gpu, entry: string, launch: Launch): Variant {
    const { tensors, constants = NONE as Constants, defines = NONE as Defines } = launch;
    let id = entry;
    for (const name in tensors) id += ` ${name}`;
    for (const name in constants) id += ` ${name}=${constants[name]}`;
    for (const name in defines) id += ` ${name}=${defines[name]}`;
    const { variants } = this.compiledFor(device);
    const known = variants.get(id);
    if (known) return known;
    const made = this.compile(device, entry, launch);
    variants.set(id, made);
    return made;
  }

  private compiledFor(device: Gpu): Compiled {
    if (this.compiled?.device !== device) {
      this.compiled = { device, variants: new Map(), modules: new Map() };
    }
    return this.compiled;
  }

  private compile(device: Gpu, entry: string, launch: Launch): Variant {
    const { tensors, constants = NONE, defines = NONE } = launch;
    const bindings = Object.keys(tensors).map((name) => this.binding(entry, name));
    const layout = BindGroups.of(device).layout(bindings);
    const { paramLayout } = device.stream;
    const pipeline = device.device.createComputePipeline({
      label: entry,
      layout: device.device.createPipelineLayout({
        bindGroupLayouts:
          paramLayout && this.fields.length > 0 ? [layout.made, paramLayout] : [layout.made],
        immediateSize: device.immediates ? this.fields.length * 4 : 0,
      }),
      compute: { module: this.module(device, defines), entryPoint: entry, constants },
    });
    // What Dawn refuses it refuses at once. Recorded, it would spoil all other work of its encoder.
    device.stream.throwFailure(entry);
    return { pipeline, layout };
  }

  private binding(entry: string, name: string): Binding {
    const found = this.bindings.get(name);
    if (found) return found;
    const known = [...this.bindings.keys()].join(", ");
    throw new ValueError({ op: entry, arg: "tensors", expected: `named ${known}`, got: name });
  }

  private module(device: Gpu, defines: Defines): GPUShaderModule {
    const { modules } = this.compiledFor(device);
    const id = JSON.stringify(defines);
    const known = modules.get(id);
    if (known) return known;
    const code = complete(this.name, this.source, defines, device.immediates);
    const made = device.device.createShaderModule({ label: this.name, code });
    device.stream.throwFailure(this.name);
    modules.set(id, made);
    return made;
  }
}

/**
 * Makes a WGSL module callable: `kernel("scale", wgsl).run("scale_forward", { … })`.
 *
 * Storage variables are bound by name. Parameters, if any, are declared as
 * `struct Params { n: u32, … }` (at most 16 scalars of u32, i32 or f32) and
 * `var<immediate> params: Params;`. A first line `// requires: threefry` adds the random generator, `quantized` what reads int8 and nf4.
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

/** What a launch computes and moves; a tensor that has several names counts once. */
function workOf({ tensors, flops, bytes }: Launch): Work {
  const sizes = new Map<Storage, number>();
  let largest = 0;
  for (const { storage, size, bytes } of Object.values(tensors)) {
    sizes.set(storage, Math.max(bytes, sizes.get(storage) ?? 0));
    largest = Math.max(largest, size);
  }
  let all = 0;
  for (const size of sizes.values()) all += size;
  return { flops: (typeof flops === "function" ? flops() : flops) ?? largest, bytes: bytes ?? all };
}

function tooLarge(op: string, arg: string, t: Tensor, limit: number): LimitError {
  const expected = `at most ${limit} bytes, which this device binds at once`;
  const hint =
    "Only look-up, linear layers, linear cross-entropy and merges take a larger one, frozen.";
  return new LimitError({ op, arg, expected, got: `${t.storage.byteLength}`, hint });
}

/** Where the tensors lie, in their order. Throws DisposedError for one of another device, LimitError for too large ones. */
function storagesOf(entry: string, tensors: Launch["tensors"]): Storage[] {
  const storages: Storage[] = [];
  for (const name in tensors) {
    const t = tensors[name]!;
    checkDevice(entry, t);
    const { storage } = t;
    const { bindingLimit } = storage.gpu;
    if (storage.byteLength > bindingLimit) throw tooLarge(entry, name, t, bindingLimit);
    storages.push(storage);
  }
  return storages;
}
