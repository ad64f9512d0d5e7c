// The switch between fast kernels and their plain twins.

/**
 * `auto`: the kernel that suits the device and the shapes. `plain`: the readable one, which needs no
 * feature of the device. `fast`: the fast one also where `auto` would find it not worth its start-up.
 */
export type KernelPath = "auto" | "plain" | "fast";

let path: KernelPath = "auto";

/**
 * Chooses between every fast kernel and its plain twin, for tests that compare the two over whole
 * training runs, and to find out whether a fast kernel is to blame.
 */
export function setKernelPath(next: KernelPath): void {
  path = next;
}

/** The path in use. */
export function kernelPath(): KernelPath {
  return path;
}
