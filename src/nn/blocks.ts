// A residual stream through the blocks of a decoder.
import { checkpoint } from "../autograd/checkpoint.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { AttentionContext } from "./attention.ts";
import type { Module } from "./module.ts";

/** The last two summands of a sum; what comes next adds them. */
export type Stream = readonly [x: Tensor, residual: Tensor | null];

/** What a block needs besides the stream. */
export type BlockContext = AttentionContext;

type Block = Module<[Tensor, Tensor | null, BlockContext], readonly [x: Tensor, residual: Tensor]>;

/**
 * What no block keeps for backward is freed on the way; x too.
 * @param x  what the first block gets
 * @param recomputes  keep of each block its input alone, and run it again in backward
 */
export function throughBlocks(
  blocks: readonly Block[],
  x: Tensor,
  context: BlockContext,
  recomputes: boolean,
): Stream {
  let stream: Stream = [x, null];
  for (const block of blocks) {
    const next = recomputes ? recomputed(block, stream, context) : block.call(...stream, context);
    for (const t of stream) if (t && !next.includes(t)) t.dispose();
    stream = next;
  }
  return stream;
}

function recomputed(block: Block, stream: Stream, context: BlockContext): Stream {
  const wantsGradient =
    stream.some((t) => t?.requiresGrad) || block.trainableParameters().length > 0;
  if (!wantsGradient) return block.call(...stream, context);
  const { angles, starts = null } = context;
  const { cos = null, sin = null } = angles ?? {};
  return checkpoint(
    (x, residual, cos, sin, starts) => {
      const turned = cos && sin ? { angles: { ...angles, cos, sin } } : {};
      return block.call(x, residual, { ...turned, starts });
    },
    ...stream,
    cos,
    sin,
    starts,
  );
}
