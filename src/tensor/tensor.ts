// Tensor: a shape, an element type and a storage. It has no ops; `autograd/methods.ts` adds them.
import { gpu } from "../gpu/device.ts";
import { DisposedError, DTypeError, ShapeError } from "../gpu/errors.ts";
import { refuseUpload } from "../gpu/recording.ts";
import { bytesOf, type DType, decode, encode } from "./dtype.ts";
import { rememberRange } from "./id_range.ts";
import { formatTensor, type Nested, nest } from "./inspect.ts";
import { isQuantized } from "./quantized.ts";
import { currentScope, type Scope } from "./scope.ts";
import { format, type Shape, sameShape, sizeOf } from "./shape.ts";
import { Storage } from "./storage.ts";

/** What the graph knows of the op that made a tensor. `src/autograd` fills it. */
export interface GraphNode {
  readonly op: string;
  retain(): void;
  release(): void;
}

/** What stays of a tensor for its finalizer once the tensor itself is gone. */
interface Holdings {
  storage: Storage;
  node: GraphNode | null;
  freed: boolean;
}

function free(holdings: Holdings): void {
  if (holdings.freed) return;
  holdings.freed = true;
  holdings.storage.gpu.tensorsLive -= 1;
  holdings.storage.release();
  holdings.node?.release();
}

type Values = Float32Array | Int32Array | Uint32Array;

/** Frees what the garbage collector finds. Members of a scope need no such net, and it is slow. */
const lost = new FinalizationRegistry<Holdings>(free);

export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly size: number;
  /** The scope that will free it. */
  scope: Scope | null = null;
  /** Sum of the gradients that `backward()` brought to this leaf. */
  grad: Tensor | null = null;
  private wantsGrad = false;
  private readonly holdings: Holdings;

  /** Takes over one reference to `storage`. */
  constructor(storage: Storage, shape: Shape, dtype: DType) {
    this.shape = shape;
    this.dtype = dtype;
    this.size = sizeOf(shape);
    this.holdings = { storage, node: null, freed: false };
    storage.gpu.tensorsLive += 1;
    const scope = currentScope();
    if (scope) scope.add(this);
    else lost.register(this, this.holdings, this);
  }

  /** A tensor with arbitrary contents. */
  static empty(op: string, shape: Shape, dtype: DType): Tensor {
    const bytes = Math.ceil(bytesOf(shape, dtype, op) / 4) * 4;
    return new Tensor(Storage.allocate(op, bytes), shape, dtype);
  }

  /**
   * A tensor with arbitrary contents that may be larger than one binding, as a vocabulary's weights are. Look-up,
   * linear layers, linear cross-entropy and merges take its rows range by range; other ops refuse it.
   */
  static emptyTable(op: string, shape: Shape, dtype: DType): Tensor {
    const bytes = Math.ceil(bytesOf(shape, dtype, op) / 4) * 4;
    return new Tensor(Storage.allocate(op, bytes, true), shape, dtype);
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Bytes of its elements, and of a quantised one's scales. */
  get bytes(): number {
    return bytesOf(this.shape, this.dtype);
  }

  get disposed(): boolean {
    return this.holdings.freed;
  }

  get storage(): Storage {
    return this.storageFor("storage");
  }

  /** The memory. Throws DisposedError, which names the op, once the tensor was freed. */
  storageFor(op: string, arg?: string): Storage {
    this.checkAlive(op, arg);
    return this.holdings.storage;
  }

  /** The op that made it, while a graph is recorded. */
  get node(): GraphNode | null {
    return this.holdings.node;
  }

  set node(node: GraphNode | null) {
    node?.retain();
    this.holdings.node?.release();
    this.holdings.node = node;
  }

  /** Whether gradients flow to or through this tensor. */
  get requiresGrad(): boolean {
    return this.wantsGrad || this.holdings.node !== null;
  }

  /** Marks a leaf as wanting a gradient, or not. */
  set requiresGrad(value: boolean) {
    if (value && this.dtype !== "f32") {
      throw new DTypeError({
        op: "requiresGrad",
        arg: "the tensor",
        expected: "f32",
        got: this.dtype,
        hint: "Cast it: `x.cast('f32')`. The other floating types are for frozen weights.",
      });
    }
    this.wantsGrad = value;
  }

  get isLeaf(): boolean {
    return this.holdings.node === null;
  }

  /** Throws DisposedError once the tensor was freed. */
  checkAlive(op: string, arg = "the tensor"): void {
    if (!this.holdings.freed) return;
    throw new DisposedError({
      op,
      arg,
      expected: "alive",
      got: `a freed ${this.dtype}${format(this.shape)}`,
      hint: "Its scope has closed: hand it out with `s.keep(x)`.",
    });
  }

  /** A second handle on the same memory, owned by the caller and by no scope. */
  handle(): Tensor {
    return this.view(this.shape).persist();
  }

  /** The same memory under another shape of the same size, with no graph. */
  view(shape: Shape): Tensor {
    if (isQuantized(this.dtype) && !sameShape(shape, this.shape)) {
      const facts = { arg: "the tensor", expected: "of f32, f16, bf16, i32 or u32" };
      const hint = 'Cast it: `x.cast("f32")`.';
      throw new DTypeError({ op: "view", ...facts, got: this.dtype, hint });
    }
    return new Tensor(this.storageFor("view").retain(), shape, this.dtype);
  }

  /** A copy of the elements in memory of its own, with no graph. */
  clone(): Tensor {
    this.checkAlive("clone");
    const copy = Tensor.emptyTable("clone", this.shape, this.dtype);
    const { storage } = copy;
    const bytes = Math.ceil(this.bytes / 4) * 4;
    storage.gpu.stream.copy(this.storage.block, this.storage.byteOffset, storage.block, 0, bytes);
    return copy;
  }

  /** Moves it to other memory of its size: takes over one reference to it and gives up the old one. */
  rebind(storage: Storage): void {
    this.checkAlive("rebind");
    this.holdings.storage.release();
    this.holdings.storage = storage;
  }

  /**
   * Overwrites the elements. Work that was called before sees the old ones, work called later the new
   * ones; a captured step reads its inputs anew in each replay.
   * @param values  as many numbers as the tensor has elements, row-major
   * @throws ShapeError for another count, ValueError for numbers that the type cannot hold
   */
  set(values: ArrayLike<number>): void {
    this.checkAlive("set");
    if (values.length !== this.size) {
      const expected = `${this.size} numbers for shape ${format(this.shape)}`;
      throw new ShapeError({ op: "set", arg: "values", expected, got: `${values.length}` });
    }
    const bytes = encode(values, this.dtype, "set");
    refuseUpload("set");
    this.storage.touch();
    this.upload(bytes);
  }

  /** Writes the bytes of all its elements. */
  upload(bytes: Uint8Array): void {
    const { gpu: device, block, byteOffset } = this.storageFor("upload");
    const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    padded.set(bytes);
    device.stream.write(block, byteOffset, padded);
    rememberRange(this, padded.buffer);
  }

  /** Takes it out of its scope: it lives until `dispose()` or until nothing refers to it. */
  persist(): this {
    if (!this.scope) return this;
    this.scope.remove(this);
    lost.register(this, this.holdings, this);
    return this;
  }

  /** Frees it. Memory goes back to the pool once no graph and no view needs it. */
  dispose(): void {
    if (this.holdings.freed) return;
    if (this.scope) this.scope.remove(this);
    else lost.unregister(this);
    free(this.holdings);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** All elements, row-major: Float32Array, or Int32Array and Uint32Array of integers. */
  data(): Promise<Values> {
    return this.read("data", (values) => values);
  }

  /** The stored bytes as they are. */
  rawBytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.bytesFor("rawBytes");
  }

  /** The one element of a tensor of size 1. */
  item(): Promise<number> {
    if (this.size === 1) return this.read("item", (values) => values[0]!);
    throw new ShapeError({
      op: "item",
      arg: "the tensor",
      expected: "of size 1",
      got: format(this.shape),
      hint: "Use `await x.data()` or `await x.array()`.",
    });
  }

  /** The elements as nested arrays of the tensor's shape. */
  array(): Promise<Nested> {
    return this.read("array", (values) => nest(values, this.shape));
  }

  /** The values as text, long axes shortened in the middle, as NumPy prints them. */
  print(): Promise<string> {
    return this.read("print", (values) => formatTensor(values, this.shape, this.dtype));
  }

  /** Throws at the call, not in the promise, where there is nothing to read. */
  private read<T>(op: string, use: (values: Values) => T): Promise<T> {
    return this.bytesFor(op).then((bytes) => use(decode(bytes, this.dtype, this.shape)));
  }

  private bytesFor(op: string): Promise<Uint8Array<ArrayBuffer>> {
    const { gpu: device, block, byteOffset } = this.storageFor(op);
    const { bytes } = this;
    const padded = Math.ceil(bytes / 4) * 4;
    const reading = device.stream.read(block, byteOffset, padded);
    return reading.then((buffer) => new Uint8Array(buffer, 0, bytes));
  }

  toString(): string {
    return `Tensor(${this.dtype}${format(this.shape)}${this.disposed ? ", freed" : ""})`;
  }

  /** What Node's console.log shows; the values are on the GPU, and `print()` reads them. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** Throws unless the device that holds the tensor is the one in use. */
export function checkDevice(op: string, t: Tensor): void {
  if (t.storageFor(op).gpu === gpu(op)) return;
  throw new DisposedError({
    op,
    arg: "the tensor",
    expected: "on the device in use",
    got: "one of a device that was disposed of",
  });
}
