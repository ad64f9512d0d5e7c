// Rows, length and type of the base that a memory has room for.
import { type Shape, type StepMemory, stepMemory, type TrainedSizes } from "./memory.ts";

export interface Fitted extends Shape {
  sizes: TrainedSizes;
  memory: StepMemory;
  fits: boolean;
}

/** A row is not made shorter than this. */
const LEAST_LENGTH = 64;

/**
 * Makes a step smaller until it fits: fewer rows at once and more micro-batches; gradient checkpointing; a base of 4
 * bits, where it is the larger part of the memory; shorter rows.
 * @param start  what is wanted
 * @param limit  bytes that there are
 * @param may  what may be changed
 * @param sizesOf  reads the sizes of the model with a type of the base
 */
export async function fitted(
  start: Shape,
  limit: number,
  may: Readonly<Record<keyof Shape, boolean>>,
  sizesOf: (dtype: Shape["base_dtype"]) => Promise<TrainedSizes>,
): Promise<Fitted> {
  const shape = { ...start };
  let sizes = await sizesOf(shape.base_dtype);
  const fits = () => stepMemory(sizes, shape).total <= limit;
  while (!fits() && shape.batch > 1 && may.batch && may.accumulate) {
    shape.batch = Math.floor(shape.batch / 2);
    shape.accumulate = Math.ceil((start.batch * start.accumulate) / shape.batch);
  }
  if (!fits() && may.gradient_checkpointing) shape.gradient_checkpointing = true;
  const isHeavy = 2 * sizes.held.base > stepMemory(sizes, shape).total;
  if (!fits() && may.base_dtype && isHeavy) {
    shape.base_dtype = "nf4";
    sizes = await sizesOf("nf4");
  }
  while (!fits() && shape.length >= 2 * LEAST_LENGTH && may.length) {
    shape.length = Math.floor(shape.length / 2);
  }
  return { ...shape, sizes, memory: stepMemory(sizes, shape), fits: fits() };
}
