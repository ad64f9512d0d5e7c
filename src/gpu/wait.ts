// Waiting for the GPU without taking a core from it.

const SPIN_MS = 0.3;
const NAP_MS = 0.4;

/**
 * Awaits a promise of the GPU. Dawn's Node binding polls on the event loop as long as something is
 * pending, which on a software adapter takes one of its own cores; short naps between polls give it
 * back. Chains of tiny dispatches finish within the first spin and never sleep.
 */
export async function patiently<T>(promise: Promise<T>, naps: boolean): Promise<T> {
  if (!naps || typeof setImmediate !== "function") return promise;
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const started = performance.now();
  let pending = true;
  const poll = () => {
    if (!pending) return;
    if (performance.now() - started > SPIN_MS) Atomics.wait(cell, 0, 0, NAP_MS);
    setImmediate(poll);
  };
  setImmediate(poll);
  try {
    return await promise;
  } finally {
    pending = false;
  }
}
