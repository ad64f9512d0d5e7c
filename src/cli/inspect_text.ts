// The facts of `lowrank inspect` as text.
import type {
  AdapterFacts,
  Facts,
  ModelFacts,
  RunFacts,
  TensorsFacts,
  TypeFacts,
} from "../train/inspect/index.ts";
import { bytesText, countText, figureText, pairs, table } from "./text.ts";

/** @param withTensors  whether every tensor of a model is listed */
export function factsText(facts: Facts, withTensors: boolean): string {
  if (facts.kind === "adapter") return adapterText(facts);
  if (facts.kind === "model") return modelText(facts, withTensors);
  return facts.kind === "run" ? runText(facts) : tensorsText(facts);
}

type Pairs = [name: string, text: string][];

function adapterText(facts: AdapterFacts): string {
  const { config, layers, others, advice, warnings } = facts;
  const kinds = [
    config.use_dora ? "DoRA" : "LoRA",
    ...(config.use_rslora ? ["rsLoRA's scale"] : []),
    ...(config.init_lora_weights === true ? [] : [`init ${config.init_lora_weights}`]),
  ];
  const { target_modules: targets } = config;
  const rows: Pairs = [
    ["adapter", facts.path],
    ["for", facts.base ?? "a base that it does not name"],
    ["kind", kinds.join(", ")],
    ["r, alpha", `${config.r}, ${config.lora_alpha}, dropout ${config.lora_dropout}`],
    ["targets", Array.isArray(targets) ? targets.join(", ") : `${targets}`],
    ["layers", `${layers.length}`],
    ["parameters", countText(facts.parameters)],
    ["bytes", `${bytesText(facts.bytes)}, ${typesText(facts.types)}`],
  ];
  if (others.length > 0)
    rows.push(["beside A, B", others.map(({ name }) => short(name)).join(", ")]);
  const head = ["layer", "r", "s", "‖A‖", "‖B‖", "‖sBA‖", "σ₁", "50 %", "90 %", "stable rank"];
  const lines = layers.map((l) => [
    l.path,
    `${l.r}`,
    figureText(l.scaling, 3),
    figureText(l.normA, 3),
    figureText(l.normB, 3),
    ...(l.spectrum
      ? [
          figureText(l.spectrum.norm, 3),
          figureText(l.spectrum.values[0] ?? 0, 3),
          `${l.spectrum.rank50}`,
          `${l.spectrum.rank90}`,
          l.spectrum.stableRank.toFixed(1),
        ]
      : ["not finite", "", "", "", ""]),
  ]);
  const notes = [...warnings.map((text) => `Warning: ${text}`), ...(advice ? [advice.text] : [])];
  return [pairs(rows), table(head, lines), notes.join("\n")].join("\n\n");
}

function modelText(facts: ModelFacts, withTensors: boolean): string {
  const { config, targets, embeddings, certificate } = facts;
  const sizes = Object.entries(config)
    .filter(([key]) => /^(n_|num_|vocab|hidden_size|intermediate|max_position|head_dim)/.test(key))
    .map(([key, value]) => `${key} ${value}`);
  const text = facts.hasTokenizer ? (facts.hasChatTemplate ? "yes, with a chat template" : "yes") : "none"; // biome-ignore format: one line
  const rows: Pairs = [
    ["model", facts.path],
    ["type", facts.type + (facts.problem ? "" : ", which can be loaded and trained here")],
    ["sizes", sizes.join(", ")],
    ["parameters", countText(facts.parameters)],
    ["bytes", `${bytesText(facts.bytes)}, ${typesText(facts.types)}`],
    ["files", facts.files.join(", ")],
    ["tokenizer", text],
  ];
  if (embeddings.length > 0) rows.push(["embeddings", `${embeddings.join(", ")}, which target_modules may name too`]); // biome-ignore format: one line
  if (certificate) {
    const moved = figureText(Number(certificate.maxLogitDifference), 3);
    rows.push(["merged", `${certificate.adapters}; logits moved by at most ${moved} on the probe`]);
  }
  const head = ["target_modules", "layers", "shape", "parameters", "all-linear"];
  const lines = targets.map((t) => [
    t.name,
    `${t.layers}`,
    `[${t.shape.join(", ")}]`,
    countText(t.parameters),
    t.isAllLinear ? "yes" : "no",
  ]);
  const parts = [pairs(rows), table(head, lines)];
  if (withTensors) parts.push(tensorTable(facts.tensors));
  if (facts.problem) parts.push(`Warning: ${facts.problem}`);
  return parts.join("\n\n");
}

function runText({ path, run, last, looks, adapter, model, checkpoint }: RunFacts): string {
  const group = (name: string) => (run[name] ?? {}) as Record<string, unknown>;
  const config = group("config");
  const [parameters, valid, general] = [group("parameters"), group("valid"), group("general")];
  const peak = Object.entries((group("memory").peak_bytes ?? {}) as Record<string, number>);
  /** Each that the run has come to; a run at work has no end yet. */
  const told = (...facts: [before: string, value: unknown, after: string][]) =>
    facts.flatMap(([before, v, after]) => (typeof v === "number" ? `${before}${figureText(v)}${after}` : [])).join(", "); // biome-ignore format: one line
  const change = ({ before, after, forgetting }: Record<string, unknown>) =>
    told(["", before, " before"], ["", after, " after"], ["forgetting ", forgetting, ""]);
  const rows: Pairs = [["run", path]];
  const add = (name: string, text: unknown) => {
    if (text !== undefined && text !== null && text !== "") rows.push([name, `${text}`]);
  };
  add("model", config.model);
  add("method", config.method);
  add("stopped", run.stopped ?? (run.ended ? undefined : "not yet, or killed"));
  add("started", run.started);
  add("ended", run.ended);
  add("last step", last && told(["", last.step, ""], ["loss ", last.loss, ""]));
  add("looks", looks || undefined);
  if (parameters.trainable !== undefined) {
    const share = (100 * Number(parameters.share)).toFixed(2);
    add("trained", `${countText(Number(parameters.trainable))} parameters, ${share} %`);
  }
  add("validation", change(valid));
  add("general", change(general));
  add("step", told(["", run.step_ms, " ms"]));
  add("tokens/s", told(["", run.tokens_per_second, ""]));
  add("peak bytes", peak.map(([name, bytes]) => `${name} ${bytesText(bytes)}`).join(", "));
  add("adapter", adapter && `${adapter} (lowrank inspect shows its spectrum)`);
  add("model", model);
  add("checkpoint", checkpoint);
  return pairs(rows);
}

function tensorsText(facts: TensorsFacts): string {
  const metadata = Object.entries(facts.metadata).map(([key, value]) => `${key} ${value.slice(0, 60)}`); // biome-ignore format: one line
  const rows: Pairs = [
    ["file", facts.path],
    ["bytes", `${bytesText(facts.bytes)}, ${typesText(facts.types)}`],
    ["elements", countText(facts.elements)],
    ["tensors", `${facts.tensors.length}`],
  ];
  if (metadata.length > 0) rows.push(["metadata", metadata.join(", ")]);
  return [pairs(rows), tensorTable(facts.tensors)].join("\n\n");
}

function tensorTable(tensors: readonly { name: string; shape: number[]; dtype: string }[]): string {
  const lines = tensors.map((t) => [t.name, `[${t.shape.join(", ")}]`, t.dtype]);
  return table(["tensor", "shape", "type"], lines);
}

/** `F32` of one type; of several, how much of each. */
function typesText(types: Readonly<Record<string, TypeFacts>>): string {
  const list = Object.entries(types);
  if (list.length === 1) return list[0]![0];
  return list.map(([name, { bytes }]) => `${name} ${bytesText(bytes)}`).join(", ");
}

function short(name: string): string {
  return name.replace(/^base_model\.model\./, "");
}
