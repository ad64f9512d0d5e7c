// How kernels that walk along rows share them out: each row to some neighbouring threads of a workgroup.
import { gpu } from "../gpu/device.ts";
import { LimitError } from "../gpu/errors.ts";
import { grid } from "./kernel.ts";
import { kernelPath } from "./path.ts";

/** The defines and the grid of a launch over rows. */
export interface RowShare {
  /** Elements of an item: 4 where rows are whole vec4s. */
  width: 1 | 4;
  defines: { V: string; WIDTH: number; LANES: number; ROWS: number };
  groups: [number, number];
}

/** lavapipe ends the loops of an invocation silently after 65,535 rounds in all. */
const MOST_ROUNDS = 60_000;
/** Lanes of a software device that share a row: one, or more where rows are few or long. */
const SOFTWARE_LANES = [1, 8, 64] as const;
const FEW_ROWS = 32;

/**
 * @param rows  how many rows
 * @param n  elements of a row
 * @param passes  how often a kernel walks along a row
 * @param step  distance between the elements of a row; only with 1 are they read four at a time
 * @throws LimitError where rows are too long for the loops of a software device
 */
export function shareRows(op: string, rows: number, n: number, passes: number, step = 1): RowShare {
  const onGpu = gpu(op).adapterClass === "gpu";
  const plain = kernelPath() === "plain";
  const width = !plain && step === 1 && n % 4 === 0 ? 4 : 1;
  const items = n / width;
  const wanted = plain ? 1 : onGpu ? lanesOfGpu(items, step) : rows < FEW_ROWS ? 8 : 1;
  const LANES = onGpu ? wanted : lanesOfSoftware(op, wanted, passes * items, n);
  const size = plain ? 16 : onGpu ? 64 : 8;
  const ROWS = Math.max(1, size / LANES);
  const V = width === 4 ? "vec4<f32>" : "f32";
  return { width, defines: { V, WIDTH: width, LANES, ROWS }, groups: grid(Math.ceil(rows / ROWS)) };
}

/** Neighbours read neighbours, about four items each; down columns they do so with one thread each. */
function lanesOfGpu(items: number, step: number): number {
  return step > 1 || items < 8 ? 1 : Math.min(256, 2 ** Math.ceil(Math.log2(items / 4)));
}

function lanesOfSoftware(op: string, wanted: number, rounds: number, n: number): number {
  const LANES = SOFTWARE_LANES.find((lanes) => lanes >= wanted && rounds <= lanes * MOST_ROUNDS);
  if (LANES) return LANES;
  const most = Math.floor((SOFTWARE_LANES[2] * MOST_ROUNDS * n) / rounds);
  throw new LimitError({ op, arg: "x", expected: `of rows of at most ${most}`, got: `${n}` });
}

/** The defines and the grid of a launch that sums columns in blocks of rows, which are summed afterwards. */
export interface ColumnShare {
  defines: { TEAM: number; COLUMNS: number };
  /** Rows of a block, and how many blocks there are. */
  block: number;
  blocks: number;
  groups: [number, number];
}

/** @param items  items of a row */
export function shareColumns(op: string, rows: number, items: number): ColumnShare {
  const onGpu = gpu(op).adapterClass === "gpu";
  const plain = kernelPath() === "plain";
  const defines = plain || onGpu ? { TEAM: 64, COLUMNS: 1 } : { TEAM: 8, COLUMNS: 4 };
  // A sum of 64 blocks is one more dispatch; a GPU wants more threads than these have.
  const block = onGpu ? Math.max(16, Math.ceil(rows / 256)) : Math.max(64, Math.ceil(rows / 64));
  const blocks = Math.ceil(rows / block);
  const across = Math.ceil(items / (defines.TEAM * defines.COLUMNS));
  return { defines, block, blocks, groups: [across, blocks] };
}
