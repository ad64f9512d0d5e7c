// The front door: `import { init, tensor, matmul } from "lowrank"`. It also names the ops on tensors.
import "./autograd/methods.ts";

export { backward } from "./autograd/backward.ts";
export { checkpoint } from "./autograd/checkpoint.ts";
export { detach, grad, valueAndGrad } from "./autograd/grad.ts";
export { gradcheck } from "./autograd/gradcheck.ts";
export { gradEnabled, noGrad } from "./autograd/graph.ts";
export { op } from "./autograd/op.ts";
export * from "./autograd/ops/index.ts";
export { type Gpu, type GpuStats, gpu, type InitOptions, init } from "./gpu/device.ts";
export * from "./gpu/errors.ts";
export { formatMemory, type MemoryCategory, type MemoryReport } from "./gpu/memory.ts";
export { replayed, type Scalar } from "./gpu/recording.ts";
export { kernel } from "./kernels/kernel.ts";
export { setKernelPath } from "./kernels/path.ts";
export {
  formatProfile,
  type OpProfile,
  type Profile,
  profile,
} from "./kernels/profile.ts";
export { ropeTables } from "./kernels/rope.ts";
export { type Captured, type CaptureResult, capture } from "./tensor/capture.ts";
export { loadModelTensors } from "./tensor/checkpoint.ts";
export {
  arange,
  full,
  ones,
  parameter,
  quantize,
  rand,
  randn,
  tensor,
  zeros,
} from "./tensor/create.ts";
export type { DType } from "./tensor/dtype.ts";
export { manualSeed, randomState, setRandomState } from "./tensor/philox.ts";
export type { QuantizedType } from "./tensor/quantized.ts";
export { loadSafetensors, saveSafetensors } from "./tensor/safetensors_file.ts";
export { type Scope, scope, scoped } from "./tensor/scope.ts";
export { Tensor } from "./tensor/tensor.ts";
export * from "./train/index.ts";
