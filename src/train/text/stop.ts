// A stream of text that ends where one of some texts begins.

/**
 * The text up to the first of the stops, which may come in several pieces. What may yet become a stop is held back.
 * @param pieces  a text, piece by piece; not asked for more once a stop was seen
 * @param stops  texts that end it and are not given
 */
export async function* untilStop(
  pieces: AsyncIterable<string>,
  stops: readonly string[],
): AsyncGenerator<string, { stopped: boolean }> {
  const wanted = stops.filter((stop) => stop !== "");
  let held = "";
  for await (const piece of pieces) {
    held += piece;
    const at = firstStop(held, wanted);
    if (at >= 0) {
      if (at > 0) yield held.slice(0, at);
      return { stopped: true };
    }
    const safe = held.length - startOfStop(held, wanted);
    if (safe > 0) yield held.slice(0, safe);
    held = held.slice(safe);
  }
  if (held !== "") yield held;
  return { stopped: false };
}

/** Where the first of the stops begins; −1 where none does. */
export function firstStop(text: string, stops: readonly string[]): number {
  const places = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return places.length > 0 ? Math.min(...places) : -1;
}

/** How many characters at the end of a text begin a stop. */
function startOfStop(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1));
  for (let n = Math.min(longest, text.length); n > 0; n--) {
    const end = text.slice(text.length - n);
    if (stops.some((stop) => stop.startsWith(end))) return n;
  }
  return 0;
}
