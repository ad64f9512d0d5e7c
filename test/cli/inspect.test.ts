// `lowrank inspect`, run as a user runs it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, not, ok } from "uvu/assert";
import { inFolder } from "../child.ts";
import { fixtureFolder } from "../fixtures.ts";
import { inProcess, lowrank } from "./command.ts";

const NO_DEVICE = { LOWRANK_ADAPTER: "voodoo" };

test("an adapter, as text and as JSON, without a device", async () => {
  const folder = fixtureFolder("peft-llama-tiny");
  const ended = await lowrank(["inspect", folder], NO_DEVICE);
  is(ended.code, 0, ended.stderr);
  match(ended.stdout, /^adapter +.*peft-llama-tiny\n/);
  match(ended.stdout, /\nlayer +r +s +‖A‖ +‖B‖ +‖sBA‖ +σ₁ +50 % +90 % +stable rank\n/);
  match(ended.stdout, /\nmodel\.layers\.0\.self_attn\.q_proj +8? ?/);
  match(ended.stdout, /90 % of the energy lies in rank \d+ of \d+/);
  not.match(ended.stdout, /undefined|NaN|\[object/);
  const { code, stdout, stderr } = await inProcess(["inspect", folder, "--json"]);
  equal([code, stderr], [0, ""]);
  const facts = JSON.parse(stdout);
  is(facts.kind, "adapter");
  ok(facts.layers.length > 0 && facts.advice.text.length > 0);
});

test("a model, its tensors where asked, and a file", async () => {
  const folder = fixtureFolder("llama-tiny");
  const plain = await inProcess(["inspect", folder]);
  is(plain.code, 0, plain.stderr);
  match(plain.stdout, "type        llama, which can be loaded and trained here");
  match(plain.stdout, /\ntarget_modules +layers +shape +parameters +all-linear\n/);
  match(plain.stdout, /\nlm_head +1 .* no\n/);
  not.match(plain.stdout, "input_layernorm");
  const all = await inProcess(["inspect", folder, "--tensors"]);
  match(all.stdout, /\nmodel\.layers\.\{0-1\}\.input_layernorm\.weight +\[\d+\] +F32\n/);
  const file = await inProcess(["inspect", join(folder, "model.safetensors")]);
  match(file.stdout, /\ntensor +shape +type\n/);
});

test("a run at work is told as far as it is: what has no figure yet is not called 0", () =>
  inFolder(async (folder) => {
    const none = { after: null, forgetting: null };
    const run = { config: {}, stopped: null, valid: { before: 2.5, ...none }, general: { before: 4, ...none }, step_ms: null, tokens_per_second: null }; // biome-ignore format: one line
    writeFileSync(`${folder}/run.json`, JSON.stringify(run));
    writeFileSync(`${folder}/metrics.jsonl`, '{"kind":"step","step":7,"loss":null}\n');
    const { stdout } = await inProcess(["inspect", folder]);
    match(stdout, /\nlast step +7\nvalidation +2\.5 before\ngeneral +4 before$/m);
    const ended = { ...run, stopped: "steps", general: { before: 4, after: 4.5, forgetting: 0.5 }, step_ms: 12 }; // biome-ignore format: one line
    writeFileSync(`${folder}/run.json`, JSON.stringify(ended));
    const whole = await inProcess(["inspect", folder]);
    match(whole.stdout, /\ngeneral +4 before, 4\.5 after, forgetting 0\.5\nstep +12 ms$/m);
  }));

test("what is wrong: exit code 1 for a path that holds nothing, 2 for none", async () => {
  const none = await inProcess(["inspect", "no/such/path"]);
  equal([none.code, none.stdout], [1, ""]);
  is(none.stderr, "inspect: no/such/path must be a file or folder that is there, got nothing.\n");
  const wrong = await inProcess(["inspect"]);
  is(wrong.code, 2);
  match(wrong.stderr, "missing required argument 'path'");
});

test.run();
