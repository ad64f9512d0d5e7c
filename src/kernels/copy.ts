// Copies that change the order or the extent of elements: permute, slice, broadcast, concat.

import { DTypeError, ShapeError, ValueError } from "../gpu/errors.ts";
import { broadcastStrides, format, type Shape, sizeOf, stridesOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkTensor } from "./check.ts";
import { dealt } from "./dealt.ts";
import { ownKernel } from "./kernel.ts";
import { partOf, tiles, type Walk, wider, words } from "./walk.ts";

const kernel = ownKernel("copy");

/** The elements in another order of axes: y[i_axes[0], i_axes[1], …] = x[i_0, i_1, …]. */
export function permuteCopy(x: Tensor, axes: Shape, op = "permute"): Tensor {
  const own = stridesOf(x.shape);
  const shape = axes.map((a) => x.shape[a]!);
  return gather(op, x, shape, { shape, strides: axes.map((a) => own[a]!), offset: 0 });
}

/** The part start … end − 1 of one axis. */
export function sliceCopy(
  x: Tensor,
  axis: number,
  start: number,
  end: number,
  op = "slice",
): Tensor {
  const strides = stridesOf(x.shape);
  const shape = x.shape.map((n, i) => (i === axis ? end - start : n));
  return gather(op, x, shape, { shape, strides, offset: start * strides[axis]! });
}

/** The elements repeated along axes of size 1 and new leading axes. The shapes must fit. */
export function broadcastCopy(x: Tensor, shape: Shape, op = "broadcast_to"): Tensor {
  const strides = broadcastStrides(x.shape, shape);
  return gather(op, x, shape, { shape: [...shape], strides, offset: 0 });
}

/** The tensors one after another along an axis. Their other sizes must agree. */
export function concatCopy(list: readonly Tensor[], axis: number, op = "concat"): Tensor {
  const total = list.reduce((sum, x) => sum + x.shape[axis]!, 0);
  const first = list[0]!;
  const shape = first.shape.map((n, i) => (i === axis ? total : n));
  let start = 0;
  const walks = list.map((x) => {
    const walk = partOf(shape, axis, start, x.shape);
    start += x.shape[axis]!;
    return words(op, x, walk);
  });
  const y = Tensor.empty(op, shape, first.dtype);
  list.forEach((x, i) => {
    copy("copy_scatter", x, y, walks[i]!);
  });
  return y;
}

/**
 * Writes `source` into the part of `target` that begins at `start` along `axis`, in place and without
 * a gradient: how key and value caches grow. Types must agree; f16 and bf16 need even offsets.
 * @throws ShapeError, DTypeError, ValueError
 */
export function copyInto(target: Tensor, source: Tensor, axis: number, start: number): void {
  const op = "copy_into";
  checkTensor(op, "target", target);
  checkTensor(op, "source", source);
  const at = axis < 0 ? axis + target.rank : axis;
  checkInto(op, target, source, at, start);
  copy(
    "copy_scatter",
    source,
    target,
    words(op, source, partOf(target.shape, at, start, source.shape)),
  );
}

function checkInto(op: string, target: Tensor, source: Tensor, axis: number, start: number): void {
  const fits =
    source.rank === target.rank &&
    source.shape.every((n, i) => i === axis || n === target.shape[i]);
  if (!fits || target.shape[axis] === undefined) {
    const dims = target.shape.map((n, i) => (i === axis ? "n" : n));
    const expected = `[${dims.join(", ")}]`;
    throw new ShapeError({ op, arg: "source", expected, got: format(source.shape) });
  }
  if (source.dtype !== target.dtype) {
    throw new DTypeError({ op, arg: "source", expected: target.dtype, got: source.dtype });
  }
  const last = target.shape[axis]! - source.shape[axis]!;
  if (!Number.isInteger(start) || start < 0 || start > last) {
    const hint = `The target has ${target.shape[axis]} along axis ${axis}.`;
    throw new ValueError({ op, arg: "start", expected: `in [0, ${last}]`, got: `${start}`, hint });
  }
  if (source.storage.block !== target.storage.block) return;
  throw new ValueError({
    op,
    arg: "source",
    expected: "other memory than the target's",
    got: "the same",
  });
}

function gather(op: string, x: Tensor, shape: Shape, walk: Walk): Tensor {
  checkTensor(op, "x", x);
  const ready = words(op, x, walk);
  const y = Tensor.empty(op, shape, x.dtype);
  copy("copy_gather", x, y, ready);
  return y;
}

function copy(entry: "copy_gather" | "copy_scatter", x: Tensor, y: Tensor, walk: Walk): void {
  const tiled = entry === "copy_gather" ? tiles(walk) : null;
  const runs = tiled ? null : wider(walk, 4);
  const { shape, strides, offset } = tiled ?? runs ?? walk;
  const n = sizeOf(shape);
  const rank = shape.length;
  // Axis 1 is the innermost. The outermost needs no size.
  const params: Record<string, number> = { n, offset, outer: strides[0]! };
  for (let k = 1; k <= 5; k++) {
    params[`size${k}`] = shape[rank - k] ?? 1;
    params[`stride${k}`] = strides[rank - k] ?? 0;
  }
  const deal = dealt(entry, n);
  kernel.run(tiled ? "copy_transpose" : entry, {
    tensors: tiled ? { x4: x, y4: y } : { x, y },
    params,
    constants: { ...deal.constants, RANK: rank },
    ...(runs ? { defines: { Element: "vec4<u32>" } } : {}),
    groups: deal.groups,
    flops: 0,
    bytes: 2 * Math.min(x.bytes, y.bytes), // a slice of x, or into a part of y
  });
}
