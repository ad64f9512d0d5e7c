// capture(): a function of tensors that is recorded once and then replayed.
import { type Gpu, gpu } from "../gpu/device.ts";
import { CaptureError, DisposedError, DTypeError, ShapeError } from "../gpu/errors.ts";
import { Plan } from "../gpu/plan.ts";
import { Recording, record, refuseCapture } from "../gpu/recording.ts";
import { scope } from "./scope.ts";
import { format, sameShape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

/** What a captured function may return. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function without a result has this type.
export type CaptureResult = void | Tensor | readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** A captured function. */
export interface Captured<A extends readonly Tensor[], R> extends Disposable {
  (...args: A): R;
  /** Forgets the recording and gives its memory back. */
  dispose(): void;
}

/**
 * Records what one call of a function does on the GPU, and does it again in later calls: no tensors, no
 * graph, no checks, hardly any JavaScript. The first call runs as usual, the second is recorded, later
 * ones are replayed; all of them compute the same bits.
 *
 * What may change between calls: the contents of tensors (`x.set(values)`), learning rates and weight
 * decays, and what the library counts itself: steps of optimisers and schedulers, keys of dropout.
 * Everything else stays as it was in the second call: shapes, modes, branches, numbers. Results are
 * overwritten by the next call. Where a tensor that the step uses was freed or replaced, the function runs
 * and is recorded once more.
 * @param fn  synchronous; reads nothing back and uploads nothing; frees no tensor from outside that it
 *   uses. Its arguments are tensors, the same ones in each call
 * @throws CaptureError, ShapeError, DTypeError, where a call could not be repeated as it was
 */
export function capture<A extends readonly Tensor[], R extends CaptureResult>(
  fn: (...args: A) => R,
): Captured<A, R> {
  const step = new Step(fn);
  const dispose = () => step.dispose();
  return Object.assign((...args: A) => step.call(args), { dispose, [Symbol.dispose]: dispose });
}

class Step<A extends readonly Tensor[], R extends CaptureResult> {
  private device: Gpu | null = null;
  /** Arguments of the first call that went well. */
  private args: A | null = null;
  private plan: Plan | null = null;
  /** Whether plans keep their memory, because somebody did not give back what one had lent. */
  private owns = false;
  /** Handles of the step's own on its results. */
  private results: R | null = null;

  constructor(private readonly fn: (...args: A) => R) {}

  call(args: A): R {
    refuseCapture("capture", "the call", "Capture the outer function alone.");
    const device = gpu("capture");
    if (this.args) this.checkCall(device, args);
    if (this.plan?.isReady()) {
      this.plan.replay();
      return mapTensors(this.results!, (t) => t.view(t.shape));
    }
    if (this.args) return this.record(device, args);
    const result = this.run(args, new Recording(false));
    this.device = device;
    this.args = args;
    return result;
  }

  dispose(): void {
    this.forget();
    this.args = null;
    this.owns = false;
  }

  private record(device: Gpu, args: A): R {
    if (this.plan?.isLent()) this.owns = true;
    this.forget();
    const { pool } = device;
    const since = pool.tenants;
    const recording = new Recording(true);
    const { result, rise } = pool.measureRise(() => this.run(args, recording));
    const plan = new Plan(pool, recording, since, rise);
    if (this.owns) plan.own();
    this.plan = plan;
    this.results = mapTensors(result, (t) => t.handle());
    return result;
  }

  /** Runs the function; its tensors are freed, but for the results, which belong to the caller. */
  private run(args: A, recording: Recording): R {
    const inner = scope();
    try {
      const result = record(recording, () => this.fn(...args));
      if (result instanceof Promise) throw asynchronous(result);
      return mapTensors(result, (t) => {
        if (t.scope === inner) t.node = null; // a replay makes no graph
        return inner.keep(t);
      });
    } finally {
      inner.dispose();
    }
  }

  private forget(): void {
    this.plan?.dispose();
    this.plan = null;
    if (this.results) mapTensors(this.results, disposed);
    this.results = null;
  }

  private checkCall(device: Gpu, args: A): void {
    if (device !== this.device) {
      const facts = { op: "capture", arg: "the device", expected: "the one of the first call" };
      throw new DisposedError({ ...facts, got: "another", hint: "Capture anew after init()." });
    }
    const expected = this.args!;
    if (args.length !== expected.length) {
      const facts = {
        op: "capture",
        arg: "the call",
        expected: `with ${expected.length} arguments`,
      };
      throw new CaptureError({ ...facts, got: `${args.length}` });
    }
    for (let i = 0; i < args.length; i++) {
      if (args[i] !== expected[i]) throw wrongArgument(i, args[i]!, expected[i]!);
    }
  }
}

function wrongArgument(index: number, got: Tensor, before: Tensor): Error {
  const facts = { op: "capture", arg: `argument ${index + 1}` };
  if (!sameShape(got.shape, before.shape)) {
    const expected = `${format(before.shape)}, as in the first call`;
    return new ShapeError({ ...facts, expected, got: format(got.shape) });
  }
  if (got.dtype !== before.dtype) {
    const expected = `${before.dtype}, as in the first call`;
    return new DTypeError({ ...facts, expected, got: got.dtype });
  }
  const hint = "Overwrite the first one: `x.set(values)`.";
  const expected = "the very tensor of the first call";
  return new CaptureError({ ...facts, expected, got: "another", hint });
}

function asynchronous(promise: Promise<unknown>): CaptureError {
  promise.catch(() => {}); // what it throws later is not news
  const facts = { op: "capture", arg: "the function", expected: "synchronous" };
  const hint = "Read what the captured step returns.";
  return new CaptureError({ ...facts, got: "one that returns a promise", hint });
}

function disposed(t: Tensor): Tensor {
  t.dispose();
  return t;
}

/** The same result with every tensor replaced. */
function mapTensors<R>(result: R, replace: (t: Tensor) => Tensor): R {
  if (result instanceof Tensor) return replace(result) as R;
  if (Array.isArray(result)) return result.map((t) => mapTensors(t, replace)) as R;
  if (typeof result !== "object" || result === null) return result;
  const pairs = Object.entries(result).map(([name, t]) => [name, mapTensors(t, replace)]);
  return Object.fromEntries(pairs);
}
