// trainRun: the run's folder, going on with the same bits, sharing a base, and refusing before anything is written.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { equal, is, match, not, ok } from "uvu/assert";
import { loadAdapter } from "../../../src/lora/peft.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { evaluate } from "../../../src/train/evaluate.ts";
import { FolderLock } from "../../../src/train/folder_lock.ts";
import {
  Base,
  METHODS,
  readMetrics,
  readRun,
  resolveConfig,
  trainRun,
} from "../../../src/train/recipe/index.ts";
import type { RowSet } from "../../../src/train/rows.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../../gpu.ts";
import { type Change, rejects, TEXT, tinyConfig, writeTinyData } from "./tiny_recipe.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

const adapterBytes = (run: string) => readFileSync(`${run}/adapter/adapter_model.safetensors`);

gpuTest(
  "a run's folder: what was asked, what came of it, each step once, and an adapter that loads",
  inTiny(async (folder) => {
    const config = tinyConfig(folder, { data: { general: `${folder}/general.txt` } });
    const summary = await trainRun(config, { command: ["train"] });
    equal(await readRun(summary.folder), JSON.parse(JSON.stringify(summary)));
    is(summary.stopped, "steps");
    is(summary.steps, 6);
    equal(summary.command, ["train"]);
    equal(summary.config.lora, {
      r: 4,
      lora_alpha: 8,
      lora_dropout: 0.1,
      target_modules: "all-linear",
    });
    const { valid, general, memory } = summary;
    ok(valid!.after! < valid!.before, "it learnt");
    is(general!.forgetting, general!.after! - general!.before);
    const { total, ...parts } = memory!.peak_bytes;
    is(
      Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
      total,
      "they add up",
    );
    ok(parts.adapters > 0 && parts.optimiser > 0);
    const events = readMetrics(`${summary.folder}/metrics.jsonl`);
    const steps = events.filter(({ kind }) => kind === "step").map(({ step }) => step);
    equal(steps, [1, 2, 3, 4, 5, 6]);
    for (const kind of ["valid", "general"]) {
      const looks = events.filter((event) => event.kind === kind);
      equal(
        looks.map(({ step }) => step),
        [2, 4, 6],
      );
      is(looks.at(-1)!.loss, summary[kind as "valid"]!.after);
    }
    using model = await fromPretrained(config.model);
    const lora = await loadAdapter(model, `${summary.folder}/adapter`);
    equal([lora.config().r, lora.config().lora_alpha], [4, 8]);
    const base = await Base.open(resolveConfig(config));
    const data = await base.dataOf(resolveConfig(config));
    const { loss } = await evaluate(model, data.valid!, { batch: 2, most: 4 });
    is(loss, valid!.after);
  }),
);

gpuTest(
  "a run that ends early and goes on ends with the bits of one without a break, and each step once",
  inTiny(async (folder) => {
    const whole = await trainRun(tinyConfig(folder, { output: `${folder}/whole` }));
    const config = tinyConfig(folder, { training: { checkpoint_every: 2 } });
    const first = await trainRun(config, { limits: { steps: 3 } });
    equal([first.stopped, first.steps], ["limit", 3]);
    const controller = new AbortController();
    const onStep = ({ step }: { step: number }) => void (step === 5 && controller.abort());
    const second = await trainRun(
      { ...config, resume: true },
      { onStep, signal: controller.signal },
    );
    equal([second.stopped, second.steps], ["aborted", 5]);
    const last = await trainRun({ ...config, resume: "if-present" });
    equal([last.stopped, last.steps], ["steps", 6]);
    is(last.started, first.started);
    equal(adapterBytes(last.folder), adapterBytes(whole.folder));
    equal(last.valid, whole.valid);
    const losses = (run: string) =>
      readMetrics(`${run}/metrics.jsonl`).map(({ kind, step, loss }) => ({ kind, step, loss }));
    const events = losses(last.folder);
    const early = events.filter(({ kind, step }) => kind === "valid" && step! % 2 === 1);
    equal(
      early.map(({ step }) => step),
      [3, 5],
      "a call's end is a look of its own",
    );
    equal(
      events.filter((event) => !early.includes(event)),
      losses(whole.folder),
    );
  }),
);

gpuTest(
  "every method trains, moves every layer, and leaves no tensor behind",
  inTiny(async (folder) => {
    let live: number | null = null;
    const trained = new Map<string, number>();
    for (const method of METHODS) {
      const output = `${folder}/${method}`;
      const change: Change = { method, output, training: { steps: 3, checkpoint_every: 0 } };
      const { valid, notes, saved, parameters } = await trainRun(tinyConfig(folder, change));
      ok(valid!.after! < valid!.before, `${method}: ${JSON.stringify(valid)}`);
      equal(notes, [], method);
      is(parameters.share === 1, method === "full");
      trained.set(method, parameters.trainable);
      is(existsSync(`${output}/checkpoint`), false);
      using model = await fromPretrained(method === "full" ? saved! : tinyConfig(folder).model);
      if (method !== "full") await loadAdapter(model, saved!);
      const full = resolveConfig(tinyConfig(folder, change));
      const data = await (await Base.open(full)).dataOf(full);
      const { loss } = await evaluate(model, data.valid!, { batch: 2, most: 4 });
      ok(Math.abs(loss - valid!.after!) < 1e-4, `${method}: ${loss}, ${valid!.after}`);
      model.dispose();
      live ??= theGpu().stats().tensorsLive;
      is(theGpu().stats().tensorsLive, live, method);
    }
    ok(trained.get("lora-fa")! < trained.get("lora")!, "LoRA-FA's A is counted as frozen");
  }),
);

gpuTest(
  "a base of 8 or 4 bits is learnt on, says another loss than the wide one, and its adapter fits that too",
  inTiny(async (folder) => {
    const run = (base_dtype: "f32" | "int8" | "nf4", method: "lora" | "dora") =>
      trainRun(
        tinyConfig(folder, { base_dtype, method, output: `${folder}/${base_dtype}-${method}` }),
      );
    const wide = await run("f32", "lora");
    for (const dtype of ["int8", "nf4"] as const) {
      for (const method of ["lora", "dora"] as const) {
        const { valid, notes, saved } = await run(dtype, method);
        ok(valid!.after! < valid!.before, `${dtype} ${method}`);
        ok(valid!.before !== wide.valid!.before, `${dtype}: the base was rounded`);
        ok(Math.abs(valid!.before - wide.valid!.before) < 0.1, `${dtype}: by little`);
        equal(notes, []);
        using model = await fromPretrained(tinyConfig(folder).model);
        await loadAdapter(model, saved!);
      }
    }
  }),
);

gpuTest(
  "T12 an adapter whose B stayed zero is named in the record",
  inTiny(async (folder) => {
    const training = { steps: 2, lr: 1e-46 }; // zero as f32
    const { notes } = await trainRun(tinyConfig(folder, { training }));
    is(notes.length, 1);
    match(notes[0]!, /^lora_B is still zero in 14 layers, such as model\.layers\.0\./);
  }),
);

gpuTest(
  "runs over one base hold it once, read data once, and end as alone",
  inTiny(async (folder) => {
    const config = (output: string, r: number) =>
      tinyConfig(folder, { output: `${folder}/${output}`, lora: { r } });
    const alone = await trainRun(config("alone", 2));
    using base = await Base.open(resolveConfig(config("x", 2)));
    let loads = 0; // reported to a run that loads for itself
    const hooks = {
      base,
      onPhase: (phase: string) => {
        if (phase.startsWith("loading")) loads += 1;
      },
    };
    await trainRun(config("other", 4), hooks);
    const shared = await trainRun(config("shared", 2), hooks);
    equal(adapterBytes(shared.folder), adapterBytes(alone.folder));
    is(loads, 0);
    is(await base.shared("auto"), await base.shared("auto"));
    equal(
      await base.dataOf(resolveConfig(config("x", 8))),
      await base.dataOf(resolveConfig(config("y", 2))),
    );
  }),
);

gpuTest(
  "patience keeps the best look's weights",
  inTiny(async (folder) => {
    const training = { steps: 30, lr: 2, eval_every: 1, patience: 2, warmup: 0 };
    const { stopped, steps, valid } = await trainRun(tinyConfig(folder, { training }));
    is(stopped, "patience");
    ok(steps < 30 && valid!.best!.step < steps);
    is(valid!.after, valid!.best!.loss);
  }),
);

gpuTest(
  "each set of weights is looked at once, and looks take half as long as the steps at most",
  inTiny(async (folder) => {
    const looksOf = async (change: Change) => {
      let looks = 0;
      const { config, valid } = await trainRun(tinyConfig(folder, change), {
        onLooking: (set, done, rows) => {
          is(set, "valid");
          if (done === rows) looks += 1;
        },
      });
      const { after } = valid!;
      rmSync(config.output, { recursive: true });
      return { every: config.training.eval_every, looks, after };
    };
    const asked = await looksOf({}); // of 6 steps
    const [often, best] = [{ eval_every: 1 }, { eval_every: 1, patience: 9 }];
    is(asked.looks, 1 + 3, "before, and after 2, 4 and 6");
    equal(await looksOf({ training: { eval_every: 4 } }), { ...asked, every: 4, looks: 3 });
    equal(await looksOf({ training: often }), { ...asked, every: 1, looks: 1 + 6 });
    is((await looksOf({ training: best })).looks, 1 + 6);
    const byItself = async (eval_rows: number, batch: number) =>
      (await looksOf({ training: { eval_every: undefined, eval_rows, batch } })).every;
    equal([await byItself(1, 2), await byItself(4, 2), await byItself(4, 1)], [1, 2, 3]);
  }),
);

gpuTest(
  "valid: 0 holds out nothing: all tokens are trained on, and nothing is said of it",
  inTiny(async (folder) => {
    const tokens = async (valid: number, rows: "windows" | "packed") => {
      const { config, ...run } = await trainRun(tinyConfig(folder, { data: { valid, rows } }));
      rmSync(config.output, { recursive: true });
      return run;
    };
    for (const rows of ["windows", "packed"] as const) {
      const [none, half] = [await tokens(0, rows), await tokens(0.5, rows)];
      is(none.valid, null);
      equal(none.notes, half.notes);
      ok(none.train_tokens > 1.8 * half.train_tokens, rows);
    }
  }),
);

gpuTest(
  "a folder in which somebody works is refused before a model or data is read",
  inTiny(async (folder) => {
    const config = tinyConfig(folder);
    const lock = await FolderLock.take("test", "output", config.output);
    const phases: string[] = [];
    await rejects(
      trainRun(config, { onPhase: (phase) => phases.push(phase) }),
      "ValueError",
      `config: output must be in use by no other process, got ${config.output}`,
    );
    equal(phases, []);
    await lock.release();
    is((await trainRun(config)).steps, 6);
  }),
);

gpuTest(
  "what does not fit is refused before any file is written",
  inTiny(async (folder) => {
    const cases: [Change, string, string | RegExp][] = [
      [
        { model: "none" },
        "ConfigError",
        "config: model must be a folder with config.json, or org/name of the hub, got none, which",
      ],
      [{ model: folder }, "ConfigError", "config: model must be a folder with config.json"],
      [{ tokenizer: undefined as never }, "ConfigError", "config: tokenizer must be named, for"],
      [{ tokenizer: "bytes" }, "ValueError", "tokenizer: its ids must be below 67"],
      [
        { lora: { target_modules: ["q_prj"] } },
        "ConfigError",
        /config: lora.target_modules must be a match .*q_proj/,
      ],
      [{ lora: { r: 40 }, method: "pissa" }, "ConfigError", /config: lora.r must be at most/],
      [
        { data: { length: 25 } },
        "ConfigError",
        "config: data.length must be at most 24, the model's context, got 25",
      ],
      [{ data: { train: `${folder}/none.txt` } }, "FormatError", "none.txt"],
      [{ data: { length: 24, valid: `${folder}/none.txt` } }, "FormatError", "none.txt"],
      [
        { resume: true },
        "ConfigError",
        "config: output must be a folder with the run to go on with",
      ],
    ];
    for (const [change, name, expected] of cases) {
      await rejects(trainRun(tinyConfig(folder, change)), name, expected);
      not.ok(existsSync(`${folder}/run`), `${expected}`);
    }
    await trainRun(tinyConfig(folder, { training: { steps: 1 } }));
    const again = trainRun(tinyConfig(folder, { training: { steps: 1 } }));
    await rejects(
      again,
      "ConfigError",
      /config: output must be a folder without a run, got .*--resume/,
    );
    const other = tinyConfig(folder, { training: { steps: 2 }, resume: true });
    const files = ["run.json", "metrics.jsonl", "checkpoint/last.safetensors"];
    const bytes = () => files.map((file) => readFileSync(`${folder}/run/${file}`, "latin1"));
    const before = bytes();
    await rejects(trainRun(other), "FormatError", "steps");
    equal(bytes(), before, "nothing was changed");
    const record = `${folder}/run/run.json`;
    for (const [text, expected] of [
      [
        before[0]!.replace('"format": 1', '"format": 9'),
        "of format 1, got 9, which another version",
      ],
      ["{}", "the record of a run, got no config"],
      ["[1]", "a JSON object, got a list"],
    ] as const) {
      writeFileSync(record, text);
      const same = tinyConfig(folder, { training: { steps: 1 }, resume: true });
      await rejects(trainRun(same), "FormatError", `${record} must be ${expected}`);
      equal(readFileSync(record, "latin1"), text);
    }
    // Killed before its first checkpoint, and then with another base: nothing of the record is taken over.
    rmSync(`${folder}/run/checkpoint`, { recursive: true });
    const odd = { ...JSON.parse(before[0]!), valid: { before: 99, after: null, best: null } };
    writeFileSync(record, JSON.stringify(odd));
    const anew = { base_dtype: "f16", resume: "if-present" } as const;
    const { valid } = await trainRun(tinyConfig(folder, { training: { steps: 1 }, ...anew }));
    ok(valid!.before < 20, "what another configuration found before is not taken over");
  }),
);

gpuTest(
  "a text's end is held out; one that fits a row has none, and patience asks for it in vain",
  inTiny(async (folder) => {
    writeFileSync(`${folder}/short.txt`, "the quick");
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const of = (data: object) => base.dataOf(resolveConfig(tinyConfig(folder, { data })));
    const { valid, train, own } = await of({ valid: 0.25 });
    ok(valid!.count >= 1 && own.count >= 2 * valid!.count, `${own.count} ${valid!.count}`);
    const text = (ids: ArrayLike<number>) =>
      base.tokenizer.decode(ids, { skipSpecialTokens: true });
    is(train.length, 16);
    const padded = (await of({ rows: "padded" })).valid!;
    ok(TEXT.trimEnd().endsWith(text(padded.row(padded.count - 1).targets.filter((id) => id > 2))));
    for (const kind of ["packed", "padded", "windows"] as const) {
      is((await of({ rows: kind })).valid!.length, 16, kind);
    }
    const short = { train: `${folder}/short.txt` };
    const alone = await of(short);
    is(alone.valid, null);
    equal(alone.notes.length, 1);
    const patient = tinyConfig(folder, { data: short, training: { patience: 2 } });
    await rejects(
      trainRun(patient),
      "ConfigError",
      "training.patience must be absent where nothing is held",
    );
    const { steps: _, ...training } = tinyConfig(folder, { training: { warmup: 30 } }).training!;
    const slow = { ...tinyConfig(folder, { data: short }), training };
    await rejects(
      trainRun(slow),
      "ConfigError",
      "training.warmup must be at most the run's steps, 2,",
    );
    const windows = { ...short, rows: "windows" as const };
    await rejects(
      of(windows),
      "ConfigError",
      "data.train must be of more than 16 tokens, a window",
    );
  }),
);

gpuTest(
  "windows of a text are its tokens, each once: what is trained on, and behind it what is held out",
  inTiny(async (folder) => {
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const all = base.tokenizer.encode(TEXT.trimEnd());
    const of = (data: object) => base.dataOf(resolveConfig(tinyConfig(folder, { data })));
    const { own, valid, tokens } = await of({ rows: "windows", valid: 0.25 });
    const held = Math.round((all.length + 1) / 4); // the end of the text is a token too
    is(tokens, all.length + 1 - held);
    const read = (rows: RowSet) =>
      Array.from({ length: rows.count }, (_, i) => [...rows.row(i).ids]).flat();
    equal(read(own), all.slice(0, 16 * own.count));
    equal(read(valid!), all.slice(tokens, tokens + 16 * valid!.count));
    ok(own.count > 20 && valid!.count > 8);
    const { own: few } = await of({ rows: "windows", valid: 0.001 });
    is(few.count, Math.floor((all.length + 1 - 17 - 1) / 16), "a window at least is held out");
    throwsLike(
      () => resolveConfig(tinyConfig(folder, { data: { rows: "windows", long: "drop" } })),
      "ConfigError",
      "data.long must be auto where data.rows is windows",
    );
  }),
);

gpuTest(
  "prompts and chats do not become windows; few samples are not held out unless asked",
  inTiny(async (folder) => {
    const line = '{"prompt": "the quick", "completion": " fox"}\n';
    writeFileSync(`${folder}/few.jsonl`, line.repeat(3));
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const of = (data: object) =>
      base.dataOf(
        resolveConfig(tinyConfig(folder, { data: { train: `${folder}/few.jsonl`, ...data } })),
      );
    const { valid, notes } = await of({});
    is(valid, null);
    equal(notes.length, 1);
    await rejects(of({ valid: 0.1 }), "FormatError", "data: valid must be at least one example");
    await rejects(of({ rows: "windows" }), "ConfigError", "data.train must be plain text where");
    await rejects(of({ length: 4 }), "FormatError", "few.jsonl, line 1: 14 tokens, but 5 fit");
  }),
);

gpuTest(
  "text beside samples: it is split and its end held out, whatever becomes of the samples",
  inTiny(async (folder) => {
    const lines = Array.from({ length: 26 }, (_, i) => {
      const completion = ` fox ${String.fromCharCode(97 + i)}`;
      return `${JSON.stringify({ prompt: "the quick", completion })}\n`;
    });
    writeFileSync(`${folder}/samples.jsonl`, lines.join(""));
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const of = (train: string[], valid = 0.25) => {
      const data = { train, valid, rows: "padded" as const };
      return base.dataOf(resolveConfig(tinyConfig(folder, { data })));
    };
    const [text, samples] = [`${folder}/text.txt`, `${folder}/samples.jsonl`];
    const [first, second, both] = [await of([text]), await of([samples]), await of([samples, text])]; // biome-ignore format: one line
    for (const part of ["own", "valid"] as const) {
      is(both[part]!.count, first[part]!.count + second[part]!.count, part);
    }
    is(both.tokens, first.tokens + second.tokens);
    is(both.counts.samples, 27);
    const few = await of([samples, text], 0.001);
    is(few.valid!.count, 1, "the text's end, where of the samples there is none");
    equal(few.notes, []);
  }),
);

gpuTest(
  "samples that are cut or passed over are told, those of other sets too, whose text is split however long it is",
  inTiny(async (folder) => {
    const lines = ["the quick brown fox", "the dog", "the lazy dog and the fox"];
    const texts = lines.map((text) => `${JSON.stringify({ text })}\n`).join("");
    writeFileSync(`${folder}/train.jsonl`, texts);
    writeFileSync(`${folder}/replay.jsonl`, `${texts}{"text": 1}\n`);
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const [train, general] = [`${folder}/train.jsonl`, `${folder}/general.txt`];
    const of = (data: object) =>
      base.dataOf(resolveConfig(tinyConfig(folder, { data: { train, general, ...data } })));
    const asked = { long: "truncate", skip_bad: true, replay: { data: `${folder}/replay.jsonl` } };
    const { notes, general: found } = await of(asked);
    const bad = `1 sample passed over as bad: ${folder}/replay.jsonl, line 4: text is no text`;
    const others = [bad, "2 samples cut, as too long"];
    equal(notes.slice(-3), [
      ...others.map((note) => `data.replay.data: ${note}`),
      "2 samples cut, as too long",
    ]);
    is(found!.count, (await of({ long: "split" })).general!.count);
    ok(found!.count > 40);
  }),
);

gpuTest(
  "tokens kept in a folder instead of memory: the same rows, and nothing is left there",
  inTiny(async (folder) => {
    const line = JSON.stringify({ text: "the quick fox" });
    writeFileSync(`${folder}/samples.jsonl`, `${line}\n`);
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const general = `${folder}/general.txt`;
    const train = [`${folder}/text.txt`, `${folder}/samples.jsonl`];
    for (const rows of ["packed", "windows"] as const) {
      const of = (more: object) => {
        const data = { train, general, rows, replay: { data: general }, ...more };
        return base.dataOf(resolveConfig(tinyConfig(folder, { data })));
      };
      const [kept, spilt] = [await of({}), await of({ spill: `${folder}/spill` })];
      for (const part of ["train", "valid", "general"] as const) {
        is(spilt[part]!.fingerprint, kept[part]!.fingerprint, `${rows}, ${part}`);
      }
      equal(spilt.train.rows(4, 0, 7), kept.train.rows(4, 0, 7));
      equal(readdirSync(`${folder}/spill`), []);
    }
    await rejects(
      base.dataOf(resolveConfig(tinyConfig(folder, { data: { spill: `${folder}/text.txt` } }))),
      "DiskError",
      "data: spill, ",
      "a folder on a disk with room",
    );
  }),
);

gpuTest(
  "what a killed process left half written is gone when the run goes on",
  inTiny(async (folder) => {
    const config = tinyConfig(folder);
    await trainRun(config, { limits: { steps: 3 } });
    const halves = ["run.json", "metrics.jsonl", "adapter/adapter_model.safetensors"];
    for (const name of halves) writeFileSync(`${folder}/run/${name}.7.0.tmp`, "half");
    const { saved, adapter_bytes } = await trainRun({ ...config, resume: true });
    const files = readdirSync(saved!).map((name) => `${saved}/${name}`);
    is(
      adapter_bytes,
      files.map((file) => readFileSync(file).length).reduce((a, b) => a + b),
    );
    const left = readdirSync(`${folder}/run`, { recursive: true });
    equal(
      left.filter((name) => `${name}`.endsWith(".tmp")),
      [],
    );
  }),
);

gpuTest(
  "layers computed again in backward: the bits of a plain run, also where only its second half is such",
  inTiny(async (folder) => {
    const config = (output: string, gradient_checkpointing: boolean) =>
      tinyConfig(folder, { output: `${folder}/${output}`, training: { gradient_checkpointing } });
    const plain = await trainRun(config("plain", false));
    const again = await trainRun(config("again", true));
    is(again.config.training.gradient_checkpointing, true);
    equal(adapterBytes(again.folder), adapterBytes(plain.folder));
    ok(again.memory!.peak_bytes.activations < plain.memory!.peak_bytes.activations);
    await trainRun(config("half", false), { limits: { steps: 3 } });
    await trainRun({ ...config("half", true), resume: true });
    equal(adapterBytes(`${folder}/half`), adapterBytes(plain.folder));
  }),
);

gpuTest(
  "bucketed examples: steps as wide as they need, and a run goes on with the same bits",
  inTiny(async (folder) => {
    const lines = Array.from({ length: 30 }, (_, i) => JSON.stringify({ text: TEXT.slice(i, 2 * i + 3).trim() })); // biome-ignore format: one line
    writeFileSync(`${folder}/texts.jsonl`, lines.join("\n"));
    const config = (output: string, data: object = {}) =>
      tinyConfig(folder, {
        output: `${folder}/${output}`,
        data: { train: `${folder}/texts.jsonl`, length: 24, long: "truncate", rows: "padded", bucketed: true, ...data }, // biome-ignore format: one line
        training: { steps: 8 },
      });
    const whole = await trainRun(config("whole"));
    const events = readMetrics(`${whole.folder}/metrics.jsonl`).filter(
      ({ kind }) => kind === "step",
    );
    const tokens = events.map(({ tokens_per_second: perSecond, step_ms: ms }) =>
      Math.round((Number(perSecond) * Number(ms)) / 1000),
    );
    ok(new Set(tokens).size > 2 && tokens.every((n) => n % 2 === 0 && n <= 48), `${tokens}`);
    await trainRun(config("parts"), { limits: { steps: 3 } });
    const parts = await trainRun({ ...config("parts"), resume: true });
    equal(adapterBytes(parts.folder), adapterBytes(whole.folder));
    const refused = (data: object, message: string) =>
      throwsLike(() => resolveConfig(config("no", data)), "ConfigError", message);
    refused({ rows: "packed" }, "data.bucketed must be absent unless data.rows is padded");
    refused({ replay: { self: true } }, "data.bucketed must be absent beside data.replay");
  }),
);

gpuTest(
  "a configuration's augmentations: texts mixed, then tokens dropped",
  inTiny(async (folder) => {
    writeFileSync(`${folder}/texts.jsonl`, '{"text": "fox"}\n{"text": "dogs"}\n'.repeat(12));
    const base = await Base.open(resolveConfig(tinyConfig(folder)));
    const of = (data: object) =>
      base.dataOf(
        resolveConfig(tinyConfig(folder, { data: { train: `${folder}/texts.jsonl`, ...data } })),
      );
    const augment = { mixing: 0.5, token_dropout: 0.3 };
    const [{ train: plain }, { train }] = [await of({}), await of({ augment })];
    is(
      train.fingerprint,
      `${plain.fingerprint}, examples mixed 0.5, tokens dropped 0.3 {"below":67}`,
    );
    const [before, after] = [plain.rows(4, 1, 0), train.rows(4, 1, 0)];
    not.equal(after.starts, before.starts);
    not.equal(after.ids, before.ids);
    equal(after.targets.sort(), before.targets.sort());
  }),
);

gpuTest(
  "self-replay: the base writes once, its texts are a share of the rows, and a run goes on with the same bits",
  inTiny(async (folder) => {
    const file = `${folder}/texts.json`;
    const config = (output: string) =>
      tinyConfig(folder, {
        output: `${folder}/${output}`,
        data: { replay: { self: true, share: 0.5, texts: 5, temperature: 2, file } },
      });
    const whole = await trainRun(config("whole"));
    const { texts } = JSON.parse(readFileSync(file, "utf8")) as { texts: number[][] };
    is(texts.length, 5);
    ok(texts.every(({ length }) => length <= 17));
    await trainRun(config("parts"), { limits: { steps: 3 } });
    const parts = await trainRun({ ...config("parts"), resume: true });
    equal(adapterBytes(parts.folder), adapterBytes(whole.folder));
    const plain = await trainRun(tinyConfig(folder, { output: `${folder}/plain` }));
    not.equal(adapterBytes(plain.folder), adapterBytes(whole.folder));
    rmSync(file);
    await trainRun(config("again"));
    equal(JSON.parse(readFileSync(file, "utf8")).texts, texts);
    const ended = AbortSignal.abort();
    const own = tinyConfig(folder, { output: `${folder}/no`, data: { replay: { self: true } } });
    await rejects(trainRun(own, { signal: ended }), "Interrupted", "before the first step");
    is(existsSync(`${folder}/no/self_replay.json`), false);
  }),
);

runTests();
