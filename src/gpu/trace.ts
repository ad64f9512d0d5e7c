// Passes of the GPU as a file that Perfetto (ui.perfetto.dev) and chrome://tracing show on a time line.
import type { TimedPass } from "./profiler.ts";

const PROCESS = 1;
const THREAD = 1;

/**
 * The passes in Chrome's Trace Event Format: one complete event for each, in microseconds.
 * @param device  what the process is called on the time line
 */
export function chromeTrace(passes: readonly TimedPass[], device: string): string {
  const named = (name: string, value: string) => ({
    ...{ name, ph: "M", pid: PROCESS, tid: THREAD },
    args: { name: value },
  });
  const events = passes.map(({ label, beginMs, gpuTimeMs, flops, bytes }) => ({
    ...{ name: label, cat: "gpu", ph: "X", pid: PROCESS, tid: THREAD },
    ...{ ts: 1000 * (beginMs ?? 0), dur: 1000 * (gpuTimeMs ?? 0), args: { flops, bytes } },
  }));
  const traceEvents = [
    named("process_name", device),
    named("thread_name", "dispatches"),
    ...events,
  ];
  return `${JSON.stringify({ displayTimeUnit: "ms", traceEvents })}\n`;
}
