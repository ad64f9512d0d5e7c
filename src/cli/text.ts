// Numbers and tables as the commands print them.

/** `1.6 MiB`. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  return `${Number((bytes / 1024 ** step).toFixed(1))} ${units[step]}`;
}

/** `1,201,152`. */
export function countText(n: number): string {
  return n.toLocaleString("en-US");
}

/** `1 row`, `1,024 rows`. */
export function counted(n: number, what: string): string {
  return `${countText(n)} ${what}${n === 1 ? "" : "s"}`;
}

/** Digits enough to tell figures apart: `2.303`, `0.00012`, `1.2e-7`. */
export function figureText(v: number, digits = 4): string {
  if (!Number.isFinite(v)) return `${v}`;
  const rounded = Number(v.toPrecision(digits));
  const size = Math.abs(rounded);
  if (v !== 0 && (size < 1e-4 || size >= 1e6)) return v.toExponential(digits - 2);
  return `${rounded}`;
}

/** Rows with their columns aligned: the first to the left, the others, which hold figures, to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  const line = (row: readonly string[]) =>
    head.map((_, i) => (i === 0 ? (row[i] ?? "").padEnd(widths[i]!) : (row[i] ?? "").padStart(widths[i]!))); // biome-ignore format: one line
  return all.map((row) => line(row).join("  ").trimEnd()).join("\n");
}

/** Names with a text each, as `doctor` prints them. */
export function pairs(list: readonly (readonly [name: string, text: string])[]): string {
  const width = Math.max(...list.map(([name]) => name.length));
  return list.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join("\n");
}
