// Numbers as a reader wants them: few digits, units, no surprises.

/** A loss: three places after the point. */
export const loss = (x: number): string => fixed(x, 3);

/** A number with a real minus sign. */
function fixed(x: number, digits: number): string {
  return x.toFixed(digits).replace("-", "−");
}

/** With its sign, as a change is written. */
export const signed = (x: number, digits = 3): string =>
  `${x >= 0 ? "+" : ""}${fixed(x, digits)}`.replace(/^\+(0\.?0*)$/, "±$1");

/** A share in percent: three digits at most. */
export function percent(share: number): string {
  const x = 100 * share;
  const digits = Math.abs(x) >= 10 || x === 0 ? 0 : Math.abs(x) >= 1 ? 1 : 2;
  return `${fixed(x, digits)} %`;
}

/** Bytes in the largest unit that leaves a number of at least 1. */
export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let x = n;
  while (x >= 1024 && unit < units.length - 1) {
    x /= 1024;
    unit += 1;
  }
  return `${x.toFixed(unit === 0 || x >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** A count: in full below ten thousand, else with a letter. */
export function count(n: number): string {
  if (Math.abs(n) < 10_000) return n.toLocaleString("en-US", { maximumFractionDigits: 0 });
  const [size, letter] = (
    [
      [1e9, "B"],
      [1e6, "M"],
      [1e3, "k"],
    ] as const
  ).find(([s]) => n >= s)!;
  return `${(n / size).toFixed(n / size >= 100 ? 0 : 1)} ${letter}`;
}

/** Milliseconds. */
export function ms(x: number): string {
  if (x >= 10_000) return `${(x / 1000).toFixed(1)} s`;
  return `${x.toFixed(x >= 100 ? 0 : x >= 10 ? 1 : 2)} ms`;
}

/** A span of seconds in the two largest units. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  if (s < 60) return `${seconds < 10 ? seconds.toFixed(1) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** A setting's number: exact, in the shorter of the two ways to write it. */
export function plain(x: number): string {
  const [short, power] = [String(x), x.toExponential()];
  return (power.length < short.length ? power : short).replace("e+", "e");
}

/** A moment in UTC, to the minute. */
export function moment(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** Things by commas, the last by "and". */
export function listed(things: readonly (string | number)[]): string {
  if (things.length < 2) return things.join("");
  return `${things.slice(0, -1).join(", ")} and ${things.at(-1)}`;
}
