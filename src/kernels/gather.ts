// Reading by index: rows of a table, or one element per position along an axis.
import { ShapeError } from "../gpu/errors.ts";
import { zeros } from "../tensor/create.ts";
import { bytesPerElement } from "../tensor/dtype.ts";
import { checkIds } from "../tensor/id_range.ts";
import { format, type Shape, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType, checkRank } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";
import { foldOf } from "./reduce.ts";
import { rowRanges } from "./row_ranges.ts";

const kernel = ownKernel("gather");

/** How many positions one pass of a backward looks at: its loops must stay below 65,535 turns. */
const BLOCK = 16384;

const FORMATS: Record<string, number> = { f32: 0, f16: 1, bf16: 2 };

/**
 * y[..., d] = table[ids[...], d], as f32.
 * @param table  [V, ...D], f32, f16 or bf16
 * @param ids  any shape, i32 or u32
 * @throws ValueError for ids that are known to lie outside [0, V − 1]
 */
export function gatherRows(table: Tensor, ids: Tensor, op = "gather", arg = "table"): Tensor {
  checkDType(op, arg, table, "f32", "f16", "bf16");
  checkRank(op, arg, table, 1, "[V, ...]", true);
  checkDType(op, "ids", ids, "i32", "u32");
  const [V, ...row] = table.shape as [number, ...number[]];
  checkIds(op, "ids", ids, V);
  const y = Tensor.empty(op, [...ids.shape, ...row], "f32");
  for (const { first: start, end, part } of rowRanges(op, table)) {
    kernel.run("gather_rows", {
      tensors: { table: part, ids, y },
      params: { n: y.size, rows: V, columns: sizeOf(row), K: 0, start, end },
      constants: { FORMAT: FORMATS[table.dtype]! },
      groups: grid(Math.ceil(y.size / 64)),
      flops: 0,
      bytes: ids.bytes + y.bytes + y.size * bytesPerElement(table.dtype),
    });
  }
  return y;
}

/** dtable: the rows of dy summed by id, in the order of ids. The cost of a block grows with its square. */
export function gatherRowsBackward(dy: Tensor, ids: Tensor, shape: Shape): Tensor {
  const [rows, ...row] = shape as [number, ...number[]];
  const columns = sizeOf(row);
  const dx = zeros(shape);
  const links = Tensor.empty("gather_rows_links", ids.shape, "u32");
  for (let start = 0; start < ids.size && dx.size > 0; start += BLOCK) {
    const end = Math.min(start + BLOCK, ids.size);
    const params = { n: (end - start) * columns, rows, columns, K: 0, start, end };
    kernel.run("gather_rows_links", {
      tensors: { ids, new_links: links },
      params,
      groups: grid(Math.ceil((end - start) / 64)),
    });
    kernel.run("gather_rows_backward", {
      tensors: { ids, dy, dx, links },
      params,
      groups: grid(Math.ceil(params.n / 64)),
    });
  }
  links.dispose();
  return dx;
}

/** y[o, k, i] = x[o, ids[o, k, i], i] along an axis; other sizes agree. Every type of 4 bytes. */
export function gatherAxis(x: Tensor, axis: number, ids: Tensor): Tensor {
  checkDType("gather", "x", x, "f32", "i32", "u32");
  checkDType("gather", "ids", ids, "i32", "u32");
  const fits = ids.rank === x.rank && ids.shape.every((n, i) => i === axis || n === x.shape[i]);
  if (!fits) {
    const dims = x.shape.map((n, i) => (i === axis ? "k" : n)).join(", ");
    const got = format(ids.shape);
    throw new ShapeError({
      op: "gather",
      arg: "ids",
      expected: `[${dims}], as x but for axis ${axis}`,
      got,
    });
  }
  checkIds("gather", "ids", ids, x.shape[axis]!);
  const { R: rows, inner: columns } = foldOf(x.shape, axis, axis + 1);
  const picked = Tensor.empty("gather", ids.shape, x.dtype);
  kernel.run("gather_axis", {
    tensors: { x, ids, picked },
    params: { n: ids.size, rows, columns, K: ids.shape[axis]!, start: 0, end: 0 },
    groups: grid(Math.ceil(ids.size / 64)),
    flops: 0,
    bytes: ids.bytes + 2 * picked.bytes,
  });
  return picked;
}

/** dx of gatherAxis. Each element of x looks at all k of its line. */
export function gatherAxisBackward(dy: Tensor, axis: number, ids: Tensor, shape: Shape): Tensor {
  const { R: rows, inner: columns } = foldOf(shape, axis, axis + 1);
  const K = ids.shape[axis]!;
  const dx = zeros(shape);
  for (let start = 0; start < K; start += BLOCK) {
    const end = Math.min(start + BLOCK, K);
    kernel.run("gather_axis_backward", {
      tensors: { ids, dy, dx },
      params: { n: dx.size, rows, columns, K, start, end },
      groups: grid(Math.ceil(dx.size / 64)),
    });
  }
  return dx;
}
