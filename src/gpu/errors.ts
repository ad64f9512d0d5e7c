// Errors that the library throws. Each carries the operation, the argument, what was required and what came.

/** What every error of the library can say about itself. */
export interface ErrorFacts {
  /** The operation that refused, such as `matmul`. */
  op: string;
  /** The argument that was wrong. */
  arg?: string;
  /** What was required of it. */
  expected?: string;
  /** What came. */
  got?: string;
  /** How to mend it. */
  hint?: string;
}

/** Base class: `<op>: <arg> must be <expected>, got <got>. <hint>`. */
export class LowrankError extends Error {
  readonly op: string;
  readonly arg: string | undefined;
  readonly expected: string | undefined;
  readonly got: string | undefined;

  constructor(facts: ErrorFacts | string) {
    super(typeof facts === "string" ? facts : sentence(facts));
    this.name = new.target.name;
    const known = typeof facts === "string" ? { op: facts.split(":")[0] ?? "" } : facts;
    this.op = known.op;
    this.arg = known.arg;
    this.expected = known.expected;
    this.got = known.got;
  }
}

function sentence({ op, arg, expected, got, hint }: ErrorFacts): string {
  let text = `${op}:`;
  if (arg) text += ` ${arg}`;
  if (expected) text += ` must be ${expected}`;
  if (got) text += `${expected ? "," : ""} got ${got}`;
  return hint ? `${text}. ${hint}` : `${text}.`;
}

/** A shape does not fit. */
export class ShapeError extends LowrankError {}
/** An element type does not fit. */
export class DTypeError extends LowrankError {}
/** A number or an option is out of its range. */
export class ValueError extends LowrankError {}
/** A tensor was used after it was freed. */
export class DisposedError extends LowrankError {}
/** `backward()` was asked of something that cannot give it. */
export class GradError extends LowrankError {}
/** Something does not fit the device: buffer sizes, bindings, workgroups. */
export class LimitError extends LowrankError {}
/** The device refused work or was lost. */
export class DeviceError extends LowrankError {}
/** A captured step was given something that it cannot repeat. */
export class CaptureError extends LowrankError {}
/** The disk refused to write: it is full, or read-only. */
export class DiskError extends LowrankError {}
/** A file is damaged or is not what it claims to be. */
export class FormatError extends LowrankError {}
