// For those who write kernels: `import { kernel, grid } from "lowrank/kernels"`.
export { checkDType, checkRank, checkShapeIs } from "./check.ts";
export { grid, type Kernel, kernel, type Launch } from "./kernel.ts";
export { type MatmulOptions, matmulForward } from "./matmul.ts";
export { type KernelPath, kernelPath, setKernelPath } from "./path.ts";
export { sources } from "./sources.ts";
