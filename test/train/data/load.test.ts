// Data from files: what is read, what is learnt to the token, what is refused, what is held out.
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { type EncodeOptions, encodeSample } from "../../../src/train/data/encode.ts";
import type { ExampleSet } from "../../../src/train/data/example_set.ts";
import { type LoadOptions, loadData } from "../../../src/train/data/load.ts";
import { dataFiles, readSamples } from "../../../src/train/data/read.ts";
import { ByteTokenizer } from "../../../src/train/text/bytes.ts";
import { loadTokenizer, type Message, type Tokenizer } from "../../../src/train/text/index.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";

const CHATML =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" +
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const bytes = new ByteTokenizer({ bos_token: "<s>", eos_token: "</s>" }, CHATML);

/** The runs of tokens that are learnt, as texts. */
function learnt(tokenizer: Tokenizer, { ids, labels }: { ids: Int32Array; labels: Int32Array }) {
  const runs: number[][] = [];
  labels.forEach((label, i) => {
    if (label === -100) return;
    is(label, ids[i], "a label is the token");
    if (i === 0 || labels[i - 1] === -100) runs.push([]);
    runs.at(-1)!.push(label);
  });
  return runs.map((run) => tokenizer.decode(run));
}

const CHAT: Message[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "assistant\n?" },
  { role: "assistant", content: "Yes é." },
  { role: "user", content: "Yes é." },
  { role: "assistant", content: "No\n" },
];
const chat = { kind: "chat" as const, messages: CHAT };

test("texts are learnt whole with their end, completions alone, exact to the token", async () => {
  const of = async (sample: Parameters<typeof encodeSample>[1], options?: EncodeOptions) =>
    learnt(bytes, await encodeSample(bytes, sample, options));
  equal(await of({ kind: "text", text: "ab" }), ["<s>ab</s>"]);
  equal(await of({ kind: "text", text: "ab", goesOn: true }), ["<s>ab"]);
  const sample = { kind: "completion" as const, prompt: "1+1=", completion: "2" };
  equal(await of(sample), ["2</s>"]);
  equal(await of(sample, { learn: "all" }), ["<s>1+1=2</s>"]);
  const { ids } = await encodeSample(bytes, sample);
  equal([...ids], bytes.encode("1+1=2</s>"));
});

test("chats: each turn of the assistant is learnt with its end mark, and nothing else", async () => {
  const turns = ["Yes é.<|im_end|>\n", "No\n<|im_end|>\n"];
  equal(learnt(bytes, await encodeSample(bytes, chat)), turns);
  equal(learnt(bytes, await encodeSample(bytes, chat, { turns: "last" })), turns.slice(1));
  const all = await encodeSample(bytes, chat, { learn: "all" });
  equal([...all.labels], [...all.ids]);
});

test("chats with a tokenizer of pieces: what is learnt begins where generation would", async () => {
  const tokenizer = await loadTokenizer(fixtureFolder("tokenizer-tiny"));
  const messages = CHAT.slice(1);
  const template = `${CHATML.replaceAll("<|im_start|>{{ m.role }}", "<|{{ m.role }}|>").replaceAll("<|im_end|>", "</s>").replaceAll("<|im_start|>assistant", "<|assistant|>")}`;
  const example = await encodeSample(tokenizer, { kind: "chat", messages }, { chat: { template } });
  equal(learnt(tokenizer, example), ["Yes é.</s>\n", "No\n</s>\n"]);
  const before = tokenizer.encode("<|user|>\nassistant\n?</s>\n<|assistant|>\n", {
    addSpecialTokens: false,
  });
  equal([...example.ids.slice(0, before.length)], before);
  is(
    example.labels.findIndex((label) => label !== -100),
    before.length,
  );
});

test("a template that writes earlier turns anew is refused, but its last turn can be learnt", async () => {
  const template =
    "{% for m in messages %}[{{ m.role }}{% if loop.last %} now{% endif %}] {{ m.content }};{% endfor %}";
  const options = { chat: { template } };
  const error = await encodeSample(bytes, chat, options).catch((e: Error) => e);
  ok(`${error}`.includes("before or in messages[2] in another way"), `${error}`);
  const shorter = "{% for m in messages %}{{ m.content if loop.last else '-' }};{% endfor %}";
  const refused = await encodeSample(bytes, chat, { chat: { template: shorter } }).catch((e) => e);
  ok(refused instanceof Error);
  const thinking =
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and loop.last %}hm {% endif %}" +
    "{{ m.content }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
  const last = { turns: "last" as const, chat: { template: thinking } };
  equal(learnt(bytes, await encodeSample(bytes, chat, last)), ["hm No\n;"]);
  const every = await encodeSample(bytes, chat, { chat: { template: thinking } }).catch((e) => e);
  ok(`${every}`.includes("messages[2]"), "the first turn is written without its thoughts later");
});

async function withFiles(
  files: Record<string, string | Uint8Array>,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    await body(folder);
  });
}

const texts = (set: ExampleSet) =>
  Array.from({ length: set.count }, (_, i) => bytes.decode(set.at(i).ids));

const load = (options: Partial<LoadOptions> & Pick<LoadOptions, "train">) =>
  loadData(bytes, { length: 128, ...options });

test("a folder of files: JSONL by its fields, other text whole, in order of names", () =>
  withFiles(
    {
      "a.jsonl": '\ufeff{"text":"one"}\n\n{"prompt":"p","completion":"c"}\r\n',
      "sub/b.ndjson": JSON.stringify({ messages: CHAT.slice(1, 3) }), // no newline at the end
      "sub/c.txt": "two\nthree\n",
      "d.png": "no text",
    },
    async (folder) => {
      const { train, valid, counts } = await load({ train: [folder] });
      equal(texts(train), [
        "<s>one</s>",
        "<s>pc</s>",
        "<|im_start|>user\nassistant\n?<|im_end|>\n<|im_start|>assistant\nYes é.<|im_end|>\n",
        "<s>two\nthree</s>",
      ]);
      is(valid, null);
      equal([counts.samples, counts.bad, counts.long], [4, 0, 0]);
      equal(await dataFiles(join(folder, "d.png")), [join(folder, "d.png")]);
    },
  ));

const BAD: [line: string | Uint8Array, reason: string][] = [
  ['{"text": "a"', "not JSON: "],
  ["[1]", "no JSON object: [1]"],
  ['{"txt": "a"}', "neither text, nor prompt and completion, nor messages, but txt"],
  ['{"text": ""}', "text is empty"],
  ['{"text": 3}', "text is no text"],
  ['{"prompt": "a"}', "a prompt without a completion"],
  ['{"completion": "a"}', "a completion without a prompt"],
  ['{"prompt": "a", "completion": ""}', "completion is empty"],
  ['{"messages": "hi"}', "messages is no list"],
  ['{"messages": [{"content": "hi"}]}', "messages[0] has no role"],
  ['{"messages": [{"role": "assistant"}]}', "messages[0] has no content"],
  ['{"messages": [{"role": "user", "content": "hi"}]}', "no turn of the assistant"],
  [Uint8Array.of(0xff, 0xfe), "not UTF-8"],
];

test("malformed lines: an error with file, line and reason, or a count", async () => {
  for (const [line, reason] of BAD) {
    const bad = typeof line === "string" ? Buffer.from(line) : line;
    const content = Buffer.concat([Buffer.from('{"text":"ok"}\n\n'), bad, Buffer.from("\n")]);
    await withFiles({ "x.jsonl": content }, async (folder) => {
      const file = join(folder, "x.jsonl");
      const error = await load({ train: [file] }).catch((e) => e);
      is(error.name, "FormatError");
      ok(error.message.startsWith(`data: ${file}, line 3: `), error.message);
      ok(error.message.includes(reason), `${error.message} lacks ${reason}`);
      const { train, counts } = await load({ train: [file], skipBad: true });
      equal([train.count, counts.samples, counts.bad], [1, 2, 1]);
      ok(counts.problems[0]!.startsWith(`${file}, line 3: `), counts.problems[0]);
    });
  }
});

test("what cannot be read, and empty sides, are refused", () =>
  withFiles(
    { "e.jsonl": "\n\n", "f.json": "[]", "g.jsonl": '{"text":"a"}', "empty/x.png": "" },
    async (folder) => {
      const says = async (options: Partial<LoadOptions>) =>
        `${await load({ train: [], ...options }).catch((e) => e)}`;
      const at = (name: string) => [join(folder, name)];
      ok((await says({ train: at("none.jsonl") })).includes("got ENOENT: no such file"));
      ok((await says({ train: at("f.json") })).includes("must be JSONL, got JSON"));
      ok((await says({ train: at("empty") })).includes("got a folder of 1 others"));
      ok(
        (await says({ train: at("e.jsonl") })).includes(
          "e.jsonl must be at least one example, got none of ",
        ),
      );
      const few = await says({ train: at("g.jsonl"), valid: 0.01 });
      ok(few.includes("valid must be at least one example, got none of 1 sample "), few);
      ok(few.includes(" from "), "the files are named");
      const all = await says({ train: at("g.jsonl"), valid: 0.99 });
      ok(all.includes("none of 1 sample (0 bad, 0 too long); all others are held out. Equal"), all);
      ok((await says({ train: at("g.jsonl"), valid: 1 })).includes("between 0 and 1, got 1"));
      ok((await says({ train: at("g.jsonl"), length: 0 })).includes("length must be a positive"));
      const long = await says({ train: at("g.jsonl"), long: "shrink" as never });
      ok(long.includes("long must be one of auto, error, truncate, drop, split, got shrink"), long);
    },
  ));

test("long examples: refused, truncated, dropped or split, and counted", () =>
  withFiles(
    {
      "x.jsonl": [
        { text: "0123456789" }, // 12 tokens with <s> and </s>
        { text: "abc" },
        { prompt: "0123456", completion: "789" },
      ]
        .map((sample) => JSON.stringify(sample))
        .join("\n"),
    },
    async (folder) => {
      const way = (long?: "truncate" | "drop" | "split", skipBad = false) =>
        load({ train: [folder], length: 5, skipBad, ...(long ? { long } : {}) });
      const error = await way(undefined, true).catch((e) => e);
      ok(error.message.includes("x.jsonl, line 1: 12 tokens, but 6 fit. Truncate"), error.message);
      const truncated = await way("truncate");
      equal(texts(truncated.train), ["<s>01234", "<s>abc</s>"]);
      equal([truncated.counts.long, truncated.counts.dropped], [2, 1]); // the prompt alone was left
      const dropped = await way("drop");
      equal(texts(dropped.train), ["<s>abc</s>"]);
      equal([dropped.counts.long, dropped.counts.dropped], [2, 2]);
      const split = await way("split");
      const parts = ["<s>01234", "456789", "9</s>", "<s>abc</s>", "456789", "9</s>"];
      equal(texts(split.train), parts);
      equal(learnt(bytes, split.train.at(4)), ["789"]);
      equal([split.counts.long, split.counts.dropped], [2, 0]);
    },
  ));

test("a file of 5 GB is read line by line", () =>
  withFiles({ "x.jsonl": '{"text":"first"}\n{"text":"second"}\n' }, async (folder) => {
    truncateSync(join(folder, "x.jsonl"), 5e9); // zeros that take no room
    const found: unknown[] = [];
    for await (const { line, sample } of readSamples([folder])) {
      found.push([line, sample]);
      if (line === 2) break;
    }
    equal(found[1], [2, { kind: "text", text: "second" }]);
  }));

test("lines and characters may lie across the pieces of a file; long texts come in pieces", async () => {
  const lines = Array.from({ length: 300 }, (_, i) => "é".repeat(i * 5) + i);
  await withFiles({ "x.txt": lines.join("\n") }, async (folder) => {
    const pieces: string[] = [];
    const ends: boolean[] = [];
    for await (const { sample } of readSamples([folder])) {
      if (sample?.kind !== "text") throw new Error("no text");
      pieces.push(sample.text);
      ends.push(!sample.goesOn);
    }
    ok(pieces.length > 2, `${pieces.length} pieces`);
    is(pieces.join(""), lines.join("\n"));
    equal(ends, [...pieces.slice(1).map(() => false), true]);
  });
});

test("a text of one line comes in pieces, cut before blanks, or between characters where there are none", async () => {
  const words = Array.from({ length: 300_000 }, (_, i) => `wörd${i}`).join(" ");
  for (const text of [words, "é漢".repeat(500_000), `a\n${words}\nb\n`]) {
    await withFiles({ "x.txt": text }, async (folder) => {
      const pieces: string[] = [];
      for await (const { line, sample } of readSamples([folder])) {
        if (sample?.kind !== "text") throw new Error("no text");
        pieces.push(sample.text);
        ok(line <= 3 && sample.text.length < 2 ** 20, `${line}, ${sample.text.length} characters`);
      }
      ok(pieces.length > 2, `${pieces.length} pieces`);
      ok(pieces.join("") === text.replace(/\n$/, ""));
      if (text === words) ok(pieces.slice(1).every((piece) => piece.startsWith(" ")));
    });
  }
});

test("held out by content: about the share, never in both, and stable when data is added", async () => {
  const line = (i: number) => JSON.stringify({ text: `sample ${i}` });
  const make = (n: number) => Array.from({ length: n }, (_, i) => line(i));
  await withFiles(
    { "x.jsonl": [...make(1000), ...make(1000)].join("\n"), "y.jsonl": make(1500).join("\n") },
    async (folder) => {
      const of = async (file: string, splitSeed = 0) => {
        const data = await load({ train: [join(folder, file)], valid: 0.2, splitSeed });
        return { train: new Set(texts(data.train)), valid: new Set(texts(data.valid!)) };
      };
      const [x, y, other] = [await of("x.jsonl"), await of("y.jsonl"), await of("x.jsonl", 1)];
      ok(Math.abs(x.valid.size - 200) < 40, `${x.valid.size} of 1000`);
      is(x.train.size + x.valid.size, 1000, "equal samples are on one side");
      for (const one of x.valid) ok(y.valid.has(one) && !y.train.has(one));
      for (const one of x.train) ok(y.train.has(one));
      ok(
        [...x.valid].some((one) => other.train.has(one)),
        "another seed holds out others",
      );
      const byFile = await load({
        train: [join(folder, "x.jsonl")],
        valid: [join(folder, "y.jsonl")],
      });
      equal([byFile.train.count, byFile.valid!.count], [2000, 1500]);
    },
  );
});

test("the fingerprint tells tokens, labels, order and borders apart", async () => {
  await withFiles(
    {
      "a.jsonl": '{"text":"ab"}\n{"text":"c"}',
      "b.jsonl": '{"text":"c"}\n{"text":"ab"}',
      "c.jsonl": '{"prompt":"a","completion":"b"}\n{"text":"c"}',
      "d.jsonl": '{"text":"a"}\n{"text":"bc"}',
    },
    async (folder) => {
      const print = async (name: string) =>
        (await load({ train: [join(folder, name)] })).train.fingerprint;
      const prints = await Promise.all(["a", "b", "c", "d"].map((n) => print(`${n}.jsonl`)));
      is(new Set(prints).size, 4);
      is(await print("a.jsonl"), prints[0]);
      ok(/^[0-9a-f]{16}$/.test(prints[0]!));
    },
  );
});

test.run();
