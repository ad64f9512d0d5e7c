// Arena: the parameters of one optimiser side by side in one buffer, their gradients in a second, each
// kind of state in one more. A step, clearing the gradients and their norm are then one dispatch each.
import { gpu } from "../../gpu/device.ts";
import { ShapeError, ValueError } from "../../gpu/errors.ts";
import type { MemoryCategory } from "../../gpu/memory.ts";
import { zeros } from "../../tensor/create.ts";
import { format } from "../../tensor/shape.ts";
import type { Storage } from "../../tensor/storage.ts";
import { Tensor } from "../../tensor/tensor.ts";

const ALIGNMENT = 256; // bytes: where WebGPU lets a binding begin

/** Where a parameter lies. */
interface Slot {
  parameter: Tensor;
  /** Its part of the buffers, in bytes. */
  offset: number;
  storage: Storage;
  /** The view of the gradient buffer that is its `grad`. */
  grad: Tensor;
}

/**
 * Parameters of one group that fit one binding together, packed at construction: values, shapes and
 * names stay, memory moves. `p.grad` becomes a view of the gradient buffer, so that backward()
 * accumulates in place. Where it was set to null or to another tensor, `collect()` brings it home.
 */
export class Segment {
  readonly parameters: Tensor;
  readonly gradients: Tensor;
  readonly state = new Map<string, Tensor>();
  private readonly slots: Slot[];

  constructor(
    /** Index of the group. */
    readonly group: number,
    members: readonly Tensor[],
    stateNames: readonly string[],
  ) {
    const { offsets, n } = layOut(members);
    this.parameters = zeros([n]).persist();
    this.gradients = zeros([n]).persist();
    for (const name of stateNames) this.state.set(name, zeros([n]).persist());
    this.parameters.storage.category = categoryOf(members);
    this.gradients.storage.category = "gradients";
    for (const t of this.state.values()) t.storage.category = "optimiser";
    this.slots = members.map((parameter, i) => this.pack(parameter, offsets[i]!));
  }

  get members(): Tensor[] {
    return this.slots.map((slot) => slot.parameter);
  }

  /** The part of a flat tensor that belongs to a member, as a view of the member's shape. */
  part(flat: Tensor, index: number): Tensor {
    const { offset, parameter } = this.slots[index]!;
    return partOf(flat, offset, parameter);
  }

  /**
   * Brings every gradient into the buffer: what backward() left elsewhere is copied, a missing one
   * counts as zero.
   * @throws ValueError where another optimiser has taken a parameter over
   */
  collect(op: string): void {
    for (const slot of this.slots) {
      const { parameter, storage } = slot;
      if (parameter.storage !== storage) throw takenOver(op, parameter);
      const found = parameter.grad;
      if (found === slot.grad && !found.disposed) continue;
      this.bring(op, slot, found);
    }
  }

  private bring(op: string, slot: Slot, found: Tensor | null): void {
    if (found && found.size !== slot.parameter.size) {
      const expected = format(slot.parameter.shape);
      throw new ShapeError({ op, arg: "p.grad", expected, got: format(found.shape) });
    }
    const home = this.home(slot);
    if (found && !found.disposed) copyStorage(found.storage, home.storage, found.bytes);
    else home.storage.gpu.stream.clear(home.storage.block, home.storage.byteOffset, home.bytes);
    home.storage.touch();
    found?.dispose();
    slot.parameter.grad = home;
  }

  /** Clears all gradients with one command. */
  zeroGrad(): void {
    const { gpu: device, block, byteOffset, byteLength } = this.gradients.storage;
    device.stream.clear(block, byteOffset, byteLength);
    this.gradients.storage.touch();
    for (const slot of this.slots) {
      const home = this.home(slot);
      if (slot.parameter.grad !== home) slot.parameter.grad?.dispose();
      slot.parameter.grad = home;
    }
  }

  /** Frees gradients and state. The parameters live on where they are. */
  dispose(): void {
    for (const { parameter, grad } of this.slots) {
      if (parameter.grad === grad) parameter.grad = null;
      grad.dispose();
    }
    for (const t of [this.parameters, this.gradients, ...this.state.values()]) t.dispose();
  }

  private pack(parameter: Tensor, offset: number): Slot {
    const storage = this.parameters.storage.slice(offset, parameter.bytes);
    copyStorage(parameter.storage, storage, parameter.bytes);
    parameter.rebind(storage);
    const grad = partOf(this.gradients, offset, parameter).persist();
    const slot = { parameter, offset, storage, grad };
    if (parameter.grad) this.bring("arena", slot, parameter.grad);
    parameter.grad = grad;
    return slot;
  }

  /** The gradient's view; a new one where somebody freed it. */
  private home(slot: Slot): Tensor {
    if (slot.grad.disposed) {
      slot.grad = partOf(this.gradients, slot.offset, slot.parameter).persist();
    }
    return slot.grad;
  }
}

/** Packs groups of parameters, each into as few segments as the device's bindings allow. */
export function packed(
  op: string,
  groups: readonly (readonly Tensor[])[],
  stateNames: readonly string[],
): Segment[] {
  const lists = distinct(op, groups);
  const { bindingLimit: limit } = gpu(op);
  const segments: Segment[] = [];
  lists.forEach((list, group) => {
    for (const members of portions(list, limit)) {
      segments.push(new Segment(group, members, stateNames));
    }
  });
  return segments;
}

/**
 * Moves tensors of f32 side by side into one buffer, or into as few as the device's bindings allow:
 * values and shapes stay. What lies together is read, written and exchanged with one command.
 */
export function packTogether(
  op: string,
  tensors: readonly Tensor[],
  category: MemoryCategory,
): void {
  const { bindingLimit: limit } = gpu(op);
  for (const members of portions(tensors, limit)) {
    const { offsets, n } = layOut(members);
    const flat = zeros([n]);
    flat.storage.category = category;
    for (const [i, t] of members.entries()) {
      const storage = flat.storage.slice(offsets[i]!, t.bytes);
      copyStorage(t.storage, storage, t.bytes);
      t.rebind(storage);
    }
    flat.dispose();
  }
}

/**
 * Where each tensor begins, in bytes, and how many elements that takes. Those of one shape lie side by
 * side, so that layers on one input find their matrices together.
 */
function layOut(tensors: readonly Tensor[]): { offsets: number[]; n: number } {
  const shapes = new Map<string, number[]>();
  for (const [i, t] of tensors.entries()) {
    const key = format(t.shape);
    const alike = shapes.get(key);
    if (alike) alike.push(i);
    else shapes.set(key, [i]);
  }
  const offsets: number[] = [];
  let at = 0;
  for (const i of [...shapes.values()].flat()) {
    offsets[i] = at;
    at += paddedBytes(tensors[i]!);
  }
  return { offsets, n: at / 4 };
}

function portions(list: readonly Tensor[], limit: number): Tensor[][] {
  const all: Tensor[][] = [];
  let bytes = Infinity;
  for (const p of list) {
    bytes += paddedBytes(p);
    if (bytes > limit) {
      all.push([]);
      bytes = paddedBytes(p);
    }
    all.at(-1)!.push(p);
  }
  return all;
}

/** The groups with tied parameters named once. Throws for what cannot be trained. */
function distinct(op: string, groups: readonly (readonly Tensor[])[]): Tensor[][] {
  const groupOf = new Map<Tensor, number>();
  const storages = new Set<Storage>();
  const lists = groups.map((group, g) => {
    const list: Tensor[] = [];
    group.forEach((p, i) => {
      const arg = groups.length > 1 ? `parameter ${i} of group ${g}` : `parameter ${i}`;
      const before = groupOf.get(p);
      if (before === g) return;
      if (before !== undefined)
        throw refused(op, arg, "in one group", `one of group ${before} too`);
      checkTrainable(op, arg, p);
      if (storages.has(p.storage)) {
        throw refused(op, arg, "in memory of its own", "a view of another parameter");
      }
      groupOf.set(p, g);
      storages.add(p.storage);
      list.push(p);
    });
    return list;
  });
  if (groupOf.size > 0) return lists;
  throw refused(op, "the parameters", "at least one", "none");
}

function checkTrainable(op: string, arg: string, p: Tensor): void {
  p.checkAlive(op, arg);
  const hint = "Pass `model.trainableParameters()`.";
  if (!p.isLeaf) throw refused(op, arg, "a leaf", `the result of ${p.node!.op}`, hint);
  if (!p.requiresGrad) throw refused(op, arg, "trainable", "a frozen one", hint);
}

function refused(op: string, arg: string, expected: string, got: string, hint = ""): ValueError {
  return new ValueError({ op, arg, expected, got, ...(hint ? { hint } : {}) });
}

function takenOver(op: string, p: Tensor): ValueError {
  const got = `a ${format(p.shape)} that another optimiser packed`;
  return refused(op, "a parameter", "in this optimiser's memory", got, "Use the newer optimiser.");
}

/** What the parameters are for: adapters, where one of them is. */
function categoryOf(members: readonly Tensor[]): MemoryCategory {
  return members.some((p) => p.storage.category === "adapters") ? "adapters" : "base";
}

function paddedBytes(p: Tensor): number {
  return Math.max(1, Math.ceil(p.bytes / ALIGNMENT)) * ALIGNMENT;
}

function partOf(flat: Tensor, offset: number, like: Tensor): Tensor {
  return new Tensor(flat.storage.slice(offset, like.bytes), like.shape, "f32");
}

/** Copies bytes between buffers; nothing where source and target are the same place. */
export function copyStorage(source: Storage, target: Storage, bytes: number): void {
  const here = source.block === target.block && source.byteOffset === target.byteOffset;
  if (here) return;
  target.gpu.stream.copy(source.block, source.byteOffset, target.block, target.byteOffset, bytes);
  target.touch();
}
