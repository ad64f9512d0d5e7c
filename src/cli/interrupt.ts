// Ctrl-C: the first asks the work to end after what it is at, the second ends the process.
import { INTERRUPTED } from "./errors.ts";

/**
 * Runs work that can be asked to end.
 * @param work  gets the signal that the first SIGINT or SIGTERM aborts
 * @param onFirst  says what happens now
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onFirst: () => void,
): Promise<T> {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    onFirst();
    controller.abort();
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const name of signals) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of signals) process.off(name, onSignal);
  }
}
