// F3: what PEFT and Transformers computed from files of lowrank, as recorded, holds for the files of today.
// The record is made by scripts/fixtures/others_read/main.ts.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { ADAPTERS, writeAdapter } from "../../scripts/fixtures/others_read/adapters.ts";
import { example } from "../../scripts/fixtures/others_read/logits.ts";
import { MODELS, writeModel, writeTokenizer } from "../../scripts/fixtures/others_read/models.ts";
import type { CausalLM } from "../../src/nn/causal_lm.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { readSafetensors } from "../../src/tensor/safetensors.ts";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { close, gpuTest, runTests } from "../gpu.ts";

interface Recorded {
  reader: "PEFT" | "Transformers";
  sha256: Record<string, string>;
  difference: number;
  changes: number;
  same_when_saved_again?: boolean;
}

const folder = fixtureFolder("others-read");
const record: {
  versions: Record<string, string>;
  tokenizer: Record<string, string>;
  cases: Record<string, Recorded>;
} = JSON.parse(readFileSync(`${folder}/record.json`, "utf8"));
const { tensors: theirs } = readSafetensors(
  folder,
  new Uint8Array(readFileSync(`${folder}/logits.safetensors`)),
);

/** The hash of a file; of weights whose last bits may differ from device to device, of the header alone. */
function digest(file: string, headerOnly = false): string {
  const bytes = readFileSync(file);
  const part = headerOnly ? bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE(0))) : bytes;
  return createHash("sha256").update(part).digest("hex");
}

const RENEW = "run scripts/fixtures/others_read/main.ts";
const logitsOf = (name: string) => new Float32Array(theirs.get(name)!.bytes.slice().buffer);

async function agrees(name: string, out: string, model: CausalLM): Promise<void> {
  const { sha256, difference } = record.cases[name]!;
  for (const [file, hash] of Object.entries(sha256)) {
    const isHeader = file === "header";
    const now = digest(`${out}/${isHeader ? "model.safetensors" : file}`, isHeader);
    is(now, hash, `${name}: ${file} is not what was read; ${RENEW}`);
  }
  // What was recorded, and what one device's sums differ from another's.
  const bound = difference + 1e-5;
  close(await example(model).logits.data(), logitsOf(name), bound, `${name}: logits`);
}

test("F3: the record holds every kind of adapter and model, read by PEFT 0.21 and Transformers 5", () => {
  const { cases, versions } = record;
  equal(Object.keys(cases).sort(), [...Object.keys(ADAPTERS), ...Object.keys(MODELS)].sort());
  match(versions.peft!, /^0\.21\./);
  match(versions.transformers!, /^5\./);
  for (const [name, { difference, changes, same_when_saved_again: same }] of Object.entries(
    cases,
  )) {
    const largest = logitsOf(name).reduce((m, v) => Math.max(m, Math.abs(v)), 1);
    // PEFT splits the weights for PiSSA in f32, we in f64.
    const bound = (name.endsWith("pissa") ? 1e-5 : 5e-6) * largest;
    ok(difference < bound, `${name}: ${difference}, ${bound}`);
    ok(changes > 1e-3 || /^saved-.*f32$/.test(name), `${name}: ${changes}`);
    ok(same !== false || name === "lora-head-lean", `${name}: saved by PEFT again`);
  }
});

test("F3: the byte tokenizer is the one that Transformers read", () =>
  inFolder(async (out) => {
    await writeTokenizer(out);
    const files = readdirSync(out).map((file) => [file, digest(`${out}/${file}`)]);
    equal(Object.fromEntries(files), record.tokenizer);
  }));

for (const [name, each] of Object.entries(ADAPTERS)) {
  gpuTest(`F3 ${name}: the adapter is the one that PEFT read, with PEFT's logits`, () =>
    inFolder(async (out) => {
      using model = await writeAdapter(each, out);
      await agrees(name, out, model);
    }),
  );
}

for (const [name, each] of Object.entries(MODELS)) {
  gpuTest(`F3 ${name}: the model is the one that Transformers read, with its logits`, () =>
    inFolder(async (parent) => {
      const out = `${parent}/model`;
      await writeModel(each, out);
      using model = await fromPretrained(out);
      await agrees(name, out, model);
    }),
  );
}

runTests();
