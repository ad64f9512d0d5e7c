// The global norm of gradients and the factor that clips them, without a read. x: [...], any sizes
import { gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor/tensor.ts";
import { checkDType } from "./check.ts";
import { grid, ownKernel } from "./kernel.ts";

const kernel = ownKernel("clip_grad_norm");
const LARGEST = 1e30; // stands for Infinity, which WGSL need not know

/**
 * norm = √Σ g² over all the gradients, and factor = min(1, maxNorm/(norm + 1e-6)), each [1].
 * @param factor  where to write the factor; default: a new tensor
 */
export function gradNorm(
  gradients: readonly Tensor[],
  maxNorm: number,
  factor?: Tensor,
): { norm: Tensor; factor: Tensor } {
  const op = "clip_grad_norm";
  gradients.forEach((g, i) => {
    checkDType(op, `gradient ${i + 1}`, g, "f32");
  });
  const LANES = gpu(op).adapterClass === "gpu" ? 64 : 8;
  const parts = gradients.map((g) => partsOf(g.size, LANES));
  const total = parts.reduce((a, b) => a + b, 0);
  const partials = Tensor.empty(op, [total], "f32");
  let offset = 0;
  gradients.forEach((x, i) => {
    kernel.run("clip_grad_norm_sums", {
      tensors: { x, partials },
      params: { n: x.size, parts: parts[i]!, offset, max_norm: 0 },
      constants: { LANES },
      groups: [Math.ceil(parts[i]! / LANES)],
    });
    offset += parts[i]!;
  });
  const made = {
    norm: Tensor.empty(op, [], "f32"),
    factor: factor ?? Tensor.empty(op, [1], "f32"),
  };
  kernel.run("clip_grad_norm_factor", {
    tensors: { partials_in: partials, ...made },
    params: { n: total, parts: 0, offset: 0, max_norm: Math.min(maxNorm, LARGEST) },
    groups: [1],
  });
  return made;
}

/** How many invocations share n elements: at least 16 elements each, and no more than pay. */
function partsOf(n: number, lanes: number): number {
  const most = lanes === 64 ? 16384 : 1024;
  return Math.min(most, Math.ceil(n / 16 / lanes) * lanes);
}

/** x *= factor, in place. */
export function scaleBy(x: Tensor, factor: Tensor): void {
  kernel.run("clip_grad_norm_scale", {
    tensors: { scaled: x, factor_in: factor },
    params: { n: x.size, parts: 0, offset: 0, max_norm: 0 },
    groups: grid(Math.ceil(x.size / 64)),
    bytes: 2 * x.bytes,
  });
}
