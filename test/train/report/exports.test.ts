// Exports: event files equal TensorBoard's own, and read back by another reader; CSV.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import {
  runCsv,
  scalarsOf,
  sweepCsv,
  writeCsv,
  writeTensorBoard,
} from "../../../src/train/report/exports.ts";
import { readRun } from "../../../src/train/report/read_run.ts";
import { readSweep } from "../../../src/train/report/read_sweep.ts";
import { crc32c, type Scalar, writeEvents } from "../../../src/train/report/tensorboard.ts";
import { inFolder } from "../../child.ts";
import { makeRun, makeSweep } from "./made.ts";

test("CRC-32C of RFC 3720's examples", () => {
  const bytes = (of: (i: number) => number) => Uint8Array.from({ length: 32 }, (_, i) => of(i));
  is(crc32c(bytes(() => 0)), 0x8a9136aa);
  is(crc32c(bytes(() => 0xff)), 0x62a8ab43);
  is(crc32c(bytes((i) => i)), 0x46dd794e);
  is(crc32c(bytes((i) => 31 - i)), 0x113fdb5c);
  is(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
});

test("an event file is TensorBoard's own, byte for byte", () =>
  inFolder(async (folder) => {
    const fixture = new URL("../../fixtures/tensorboard/", import.meta.url);
    const { started, scalars } = JSON.parse(
      readFileSync(new URL("scalars.json", fixture), "utf8"),
    ) as { started: number; scalars: Scalar[] };
    const path = await writeEvents(`${folder}/x`, scalars, started);
    is(path, `${folder}/x/events.out.tfevents.1795576200.lowrank`);
    equal(readFileSync(path), readFileSync(new URL("scalars.tfevents", fixture)));
  }));

/** A reader that knows of frames and fields, and nothing of the writer. */
function* readEvents(bytes: Buffer): Generator<{ tag: string; step: number; value: number }> {
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    const event = fieldsOf(bytes.subarray(at + 12, at + 12 + length));
    at += length + 16;
    const summary = event.get(5);
    if (!summary) continue;
    const value = fieldsOf(fieldsOf(summary as Buffer).get(1) as Buffer);
    yield {
      tag: String(value.get(1)),
      step: Number(event.get(2) ?? 0),
      value: (value.get(2) as Buffer).readFloatLE(0),
    };
  }
}

function fieldsOf(bytes: Buffer): Map<number, Buffer | bigint> {
  const fields = new Map<number, Buffer | bigint>();
  let at = 0;
  const varint = () => {
    let [n, shift] = [0n, 0n];
    for (;;) {
      const byte = bytes[at++]!;
      n |= BigInt(byte & 127) << shift;
      shift += 7n;
      if (byte < 128) return n;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const kind = key & 7;
    if (kind === 0) {
      fields.set(key >> 3, varint());
      continue;
    }
    const length = kind === 2 ? Number(varint()) : kind === 1 ? 8 : 4;
    fields.set(key >> 3, bytes.subarray(at, at + length));
    at += length;
  }
  return fields;
}

test("every number of a run is in its event file", () =>
  inFolder(async (folder) => {
    makeRun(`${folder}/r`, { steps: 60, skipped: [5] });
    const run = await readRun(`${folder}/r`);
    const [path] = await writeTensorBoard(`${folder}/tb`, [run], []);
    const read = [...readEvents(readFileSync(path!))];
    const scalars = scalarsOf(run);
    equal(
      read,
      scalars.map(({ tag, step, value }) => ({ tag, step, value: Math.fround(value) })),
    );
    const count = (tag: string) => read.filter((one) => one.tag === tag).length;
    equal(
      ["train/loss", "train/lr", "train/grad_norm", "valid/loss", "general/loss"].map(count),
      [59, 60, 59, 21, 6],
    );
    const times = scalars.map(({ time }) => time);
    is(new Date(times[0]! * 1000).getUTCFullYear(), 2026);
    ok(
      times.every((time, i) => i === 0 || time >= times[i - 1]! - 1e-9),
      "time goes on",
    );
  }));

test("the trials of a sweep have event files of their own", () =>
  inFolder(async (folder) => {
    makeSweep(`${folder}/s`, { trials: 3 });
    const paths = await writeTensorBoard(`${folder}/tb`, [], [await readSweep(`${folder}/s`)]);
    equal(paths.map((path) => dirname(path)), ["0000", "0001", "0002"].map((n) => `${folder}/tb/s/${n}`)); // biome-ignore format: one line
    const tags = new Set([...readEvents(readFileSync(paths[2]!))].map(({ tag }) => tag));
    ok(tags.has("train/loss") && tags.has("valid/loss"));
  }));

test("a run as CSV: a row for each step, held-out losses beside it, nothing where there is no number", () =>
  inFolder(async (folder) => {
    makeRun(folder, { steps: 40, skipped: [3] });
    const rows = runCsv(await readRun(folder))
      .split("\r\n")
      .map((row) => row.split(","));
    is(
      rows[0]!.join(),
      "step,loss,smoothed_loss,lr,grad_norm,step_ms,tokens_per_second,skipped,valid_loss,general_loss",
    );
    is(rows.length, 43, "head, step 0, 40 steps, the end");
    equal(rows[1], ["0", "", "", "", "", "", "", "", "3.402", "2.901"]);
    equal([rows[4]![0], rows[4]![1], rows[4]![7]], ["3", "", "true"]);
    ok(Number(rows[3]![8]) > 2);
  }));

test("a sweep as CSV; commas, quotes and new lines stand in quotes", () =>
  inFolder(async (folder) => {
    makeSweep(folder, { trials: 4 });
    const sweep = await readSweep(folder);
    sweep.trials[0]!.settings["lora.target_modules"] = 'a,"b"\nc';
    const text = sweepCsv(sweep);
    ok(
      text.startsWith(
        "trial,lora.r,lora.lora_alpha,training.lr,lora.target_modules,seed,objective,valid_loss,forgetting,steps,seconds,stopped\r\n",
      ),
    );
    ok(text.includes('"a,""b""\nc"'));
    const [path] = await writeCsv(`${folder}/csv`, [], [sweep]);
    is(readFileSync(path!, "utf8"), text);
  }));

test.run();
