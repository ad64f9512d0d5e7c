// Chosen: what was asked, and what is suggested beside it.
import { type RawConfig, withSettings } from "../recipe/read_config.ts";
import type { Choice } from "./choices.ts";

export class Chosen {
  /** In the order in which they were made. */
  readonly list: Choice[] = [];

  /** @param raw  what was asked, which stays as it is */
  constructor(private readonly raw: RawConfig) {}

  /** Whether a key was asked. */
  isGiven(key: string): boolean {
    let at: unknown = this.raw;
    for (const part of key.split(".")) at = (at as RawConfig | null | undefined)?.[part];
    return at !== undefined;
  }

  /** Takes what was not asked; a key that there is gets a new value. */
  add(...choices: readonly Choice[]): void {
    for (const choice of choices) {
      if (this.isGiven(choice.key)) continue;
      const at = this.list.findIndex(({ key }) => key === choice.key);
      if (at === -1) this.list.push(choice);
      else this.list[at] = choice;
    }
  }

  /** Both together. */
  get settings(): RawConfig {
    return withSettings(
      this.raw,
      Object.fromEntries(this.list.map(({ key, value }) => [key, value])),
    );
  }
}
