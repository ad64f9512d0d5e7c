// What `lowrank suggest` prints.
import type { Suggestion } from "../train/recipe/index.ts";
import { bitsText } from "../train/suggest/capacity.ts";
import { bytesText, counted, countText, figureText, pairs } from "./text.ts";
import { commandsText, quoted } from "./train_text.ts";

/**
 * A suggestion for people.
 * @param file  where its settings were written
 */
export function suggestionText(found: Suggestion, file: string | null): string {
  const notes = [
    ...found.warnings.map((text) => `Warning: ${text}.`),
    ...found.hints.map((text) => `Hint: ${text}.`),
  ];
  const next = file === null ? "" : `\n\nNext:\n${commandsText([[`lowrank train -c ${quoted(file)}`, "trains with these settings; flags go before them"]])}`; // biome-ignore format: one line
  return `${pairs(factsOf(found))}\n\n${settingsText(found)}\n\n${notes.join("\n")}${next}`;
}

function factsOf({
  model,
  data,
  memory,
  capacity,
  steps,
  rowsPerStep,
}: Suggestion): [string, string][] {
  const { total, ...parts } = memory.bytes;
  const by = Object.entries(parts).map(([name, bytes]) => `${name} ${bytesText(bytes)}`);
  const held = data.heldOut === null ? "nothing is held out" : `${countText(data.heldOut)} are held out`; // biome-ignore format: one line
  const learnt = data.learnt < data.tokens ? `, of which ${countText(data.learnt)} are learnt` : "";
  const full = model.trainable < model.total ? `; full fine-tuning would take ${bytesText(memory.full)}` : ""; // biome-ignore format: one line
  const limit = memory.limit === null ? "" : ` of ${bytesText(memory.limit)}`;
  return [
    ["model", `${model.name}: ${countText(model.base)} parameters, ${model.layers} layers of width ${model.width}, context ${model.context}`],
    ["trained", `${countText(model.trainable)} of ${countText(model.total)} parameters (${figureText((100 * model.trainable) / model.total, 3)} %)`],
    ["data", `${counted(data.samples, "sample")}, ${countText(data.tokens)} tokens${learnt}`],
    ["rows", `${countText(data.rows)} of ${data.length} tokens to train on; ${held}`],
    ["steps", `${countText(steps)} of ${counted(rowsPerStep, "row")}`],
    ["memory", `about ${bytesText(total)}${limit} (${by.join(", ")})${full}`],
    ["room", `${bitsText(capacity.adapter)}, at 2 bits a parameter; the text says about ${bitsText(capacity.data)}`],
  ]; // biome-ignore format: a table
}

/** Settings in three columns: key, value, reason. */
function settingsText({ choices }: Suggestion): string {
  const rows = choices.map(({ key, value, why }) => [key, `${value}`, why] as const);
  const width = (i: 0 | 1) => Math.max(...rows.map((row) => row[i].length));
  const [first, second] = [width(0), width(1)];
  return rows
    .map(([key, value, why]) => `${key.padEnd(first)}  ${value.padEnd(second)}  ${why}`)
    .join("\n");
}
