// Facts: a JSON object that something wrote, which may lack anything.

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export class Facts {
  constructor(readonly json: Json) {}

  /** What stands at a dotted path, or undefined. */
  at(path: string): unknown {
    return path
      .split(".")
      .reduce<unknown>(
        (value, key) => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined),
        this.json,
      );
  }

  /** The finite number there, or null. */
  number(path: string): number | null {
    const value = this.at(path);
    return typeof value === "number" && Number.isFinite(value) ? value : null;
  }

  /** The text there, or null where it is none or empty. */
  text(path: string): string | null {
    const value = this.at(path);
    return typeof value === "string" && value !== "" ? value : null;
  }

  /** The moment there, or null. */
  date(path: string): Date | null {
    const value = this.at(path);
    const date = new Date(typeof value === "string" || typeof value === "number" ? value : "");
    return Number.isNaN(date.getTime()) ? null : date;
  }

  /** The finite numbers of the object there. */
  numbers(path: string): [key: string, value: number][] {
    const value = this.at(path);
    return Object.entries(isObject(value) ? value : {}).filter(
      (entry): entry is [string, number] =>
        typeof entry[1] === "number" && Number.isFinite(entry[1]),
    );
  }

  /** The object there, each leaf by its dotted path; lists and empty objects are leaves. */
  leaves(path: string): [path: string, value: unknown][] {
    const walk = (value: unknown, at: string): [string, unknown][] =>
      isObject(value) && Object.keys(value).length > 0
        ? Object.entries(value).flatMap(([key, inner]) => walk(inner, at ? `${at}.${key}` : key))
        : [[at, value]];
    const value = this.at(path);
    return isObject(value) ? walk(value, "").filter(([key]) => key !== "") : [];
  }
}
