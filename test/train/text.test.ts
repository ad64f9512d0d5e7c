// Tokenizers and chats against Transformers', the bytes' own tokenizer, and text as it is generated.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { optional } from "../../src/train/optional.ts";
import {
  ByteTokenizer,
  checkTokenizer,
  decodeStream,
  encodeChat,
  generateText,
  loadTokenizer,
  type Message,
  renderChat,
  tokenizerFromJson,
} from "../../src/train/text/index.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, throwsLike } from "../gpu.ts";
import { sharedPath } from "../shared.ts";

const FOLDER = fixtureFolder("tokenizer-tiny");

const TEXTS = [
  "",
  "plain text",
  " leading and trailing ",
  "émigré 日本語 👍🏽 \u0000\t\n\r\n  end",
  "it's 12345 o'clock, isn't it?",
  "ﬁ ①²³ ½ ß ſ \u{10FFFF} \u00ad",
  "<s>inside</s> <s",
];

interface Expected {
  vocab: number;
  texts: { text: string; ids: number[]; plain: number[]; decoded: string; skipped: string }[];
  chats: {
    messages: Message[];
    options: { add_generation_prompt: boolean; tools?: unknown[] };
    text: string;
    ids: number[];
  }[];
}

async function expected(folder = FOLDER): Promise<Expected> {
  return JSON.parse(await readFile(`${folder}/expected.json`, "utf8"));
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-text-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function refused(
  promise: Promise<unknown>,
  className: string,
  ...parts: (string | RegExp)[]
): Promise<void> {
  const error = await promise.then(
    () => null,
    (e) => e,
  );
  throwsLike(
    () => {
      if (error) throw error;
    },
    className,
    ...parts,
  );
}

async function collect(pieces: AsyncIterable<string>): Promise<string[]> {
  const list: string[] = [];
  for await (const piece of pieces) list.push(piece);
  return list;
}

for (const [name, ...special] of [
  ["tokenizer-tiny", 0, 1, 1],
  ["tokenizer-spaces", 1, 2, null],
] as const)
  test(`${name} gives the ids and texts that Transformers gives`, async () => {
    const tokenizer = await loadTokenizer(fixtureFolder(name));
    const { vocab, texts } = await expected(fixtureFolder(name));
    is(tokenizer.vocabSize, vocab);
    equal([tokenizer.bosId, tokenizer.eosId, tokenizer.padId], special);
    ok(texts.length >= 7);
    for (const { text, ids, plain, decoded, skipped } of texts) {
      equal(tokenizer.encode(text), ids, text);
      equal(tokenizer.encode(text, { addSpecialTokens: false }), plain, text);
      is(tokenizer.decode(ids), decoded);
      is(tokenizer.decode(Int32Array.from(ids), { skipSpecialTokens: true }), skipped);
    }
  });

test("chats are rendered and encoded as Transformers does it", async () => {
  const tokenizer = await loadTokenizer(FOLDER);
  for (const { messages, options, text, ids } of (await expected()).chats) {
    const { add_generation_prompt: addGenerationPrompt, tools } = options;
    const given = { addGenerationPrompt, ...(tools ? { tools } : {}) };
    is(await renderChat(tokenizer, messages, given), text);
    equal(await encodeChat(tokenizer, messages, given), ids);
  }
});

test("templates by name, by text, and those that refuse", async () => {
  const tokenizer = new ByteTokenizer(
    { eos_token: "<e>" },
    "{{ messages | length }}{{ eos_token }}",
  );
  const turn = [{ role: "user", content: "x" }];
  is(await renderChat(tokenizer, turn), "1<e>");
  equal(await encodeChat(tokenizer, turn), [49, 256]);
  const template = "{{ messages[0].content }}{{ mood }}";
  is(await renderChat(tokenizer, turn, { template, variables: { mood: "!" } }), "x!");
  const tiny = await loadTokenizer(FOLDER);
  const system = [{ role: "system", content: "be kind" }];
  await refused(renderChat(tiny, system), "FormatError", "no system turns");
  await refused(renderChat(tiny, turn, { template: "{% if %}" }), "FormatError", "cannot render");
  const rag = renderChat(tiny, turn, { template: "rag" });
  await refused(rag, "ValueError", "template must be one of default, or a template", "got rag");
  await refused(
    renderChat(new ByteTokenizer(), turn),
    "ValueError",
    "the tokenizer has none",
    "chat_template.jinja",
  );
});

test("templates stand in tokenizer_config.json, alone or with names, or in a file of their own", () =>
  inFolder(async (folder) => {
    const json = await readFile(`${FOLDER}/tokenizer.json`);
    await writeFile(`${folder}/tokenizer.json`, json);
    const names = async (config: object) => {
      await writeFile(`${folder}/tokenizer_config.json`, JSON.stringify(config));
      return [...(await loadTokenizer(folder)).chatTemplates];
    };
    equal(await names({}), []);
    equal(await names({ chat_template: "a" }), [["default", "a"]]);
    const both = [
      { name: "default", template: "a" },
      { name: "rag", template: "b" },
    ];
    equal(await names({ chat_template: both }), [
      ["default", "a"],
      ["rag", "b"],
    ]);
    await writeFile(`${folder}/chat_template.jinja`, "c");
    equal(await names({ chat_template: both }), [
      ["rag", "b"],
      ["default", "c"],
    ]);
    await rm(`${folder}/chat_template.jinja`);
    await refused(names({ chat_template: 3 }), "FormatError", "chat_template of", "got 3");
    await writeFile(`${folder}/special_tokens_map.json`, '{"eos_token": {"content": "</s>"}}');
    await writeFile(`${folder}/tokenizer_config.json`, "{}");
    is((await loadTokenizer(folder)).eosId, 1);
  }));

test("a folder without a tokenizer, or with one that is broken or not known, is refused", () =>
  inFolder(async (folder) => {
    await refused(loadTokenizer(folder), "FormatError", "tokenizer.json cannot be read");
    await writeFile(`${folder}/tokenizer.json`, "{}");
    await refused(loadTokenizer(folder), "FormatError", folder, "no tokenizer that can be used");
    const json = JSON.parse(await readFile(`${FOLDER}/tokenizer.json`, "utf8"));
    const strange = { ...json, model: { ...json.model, type: "Telepathy" } };
    await refused(tokenizerFromJson(strange), "FormatError", "no tokenizer that can be used");
  }));

test("an optional package that is absent is named with the command that installs it", async () => {
  const name = "@huggingface/no-such-package";
  const absent = optional("chat", name, () => import(name));
  await refused(absent, "LowrankError", `chat: the package ${name} must be installed, got none`);
  await refused(absent, "LowrankError", `Run: npm install ${name}`);
  const broken = optional("chat", name, () => Promise.reject(new TypeError("broken")));
  await refused(broken, "TypeError", "broken");
});

test("bytes: every text comes back, special tokens are single ids", () => {
  const plain = new ByteTokenizer();
  is(plain.vocabSize, 256);
  for (const text of TEXTS) is(plain.decode(plain.encode(text)), text);
  const tokens = { bos_token: "<s>", eos_token: "</s>", pad_token: "</s>", user_token: "<s>+" };
  const special = new ByteTokenizer(tokens);
  is(special.vocabSize, 259);
  equal([special.bosId, special.eosId, special.padId], [256, 257, 257]);
  equal(special.encode("a</s><s>+"), [256, 97, 257, 258], "the longest wins");
  equal(special.encode("a", { addSpecialTokens: false }), [97]);
  is(special.decode([256, 97, 257, 98, 300]), "<s>a</s>b");
  is(special.decode([256, 97, 257, 98], { skipSpecialTokens: true }), "ab");
  is(special.decode([0xe6, 0x97]), "\uFFFD", "half a character");
});

test("bytes: the folder that is written is read by the Hugging Face library with the same ids", () =>
  inFolder(async (folder) => {
    const tokens = { bos_token: "<s>", eos_token: "</s>" };
    for (const own of [new ByteTokenizer(), new ByteTokenizer(tokens, "{{ bos_token }}")]) {
      await own.save(folder);
      const theirs = await loadTokenizer(folder);
      is(theirs.vocabSize, own.vocabSize);
      equal([theirs.bosId, theirs.eosId, theirs.padId], [own.bosId, own.eosId, own.padId]);
      equal([...theirs.chatTemplates], [...own.chatTemplates]);
      for (const text of TEXTS) {
        equal(theirs.encode(text), own.encode(text), JSON.stringify(text));
        is(theirs.decode(own.encode(text)), own.decode(own.encode(text)));
      }
    }
  }));

test("text streams in whole characters, and the pieces are the whole text", async () => {
  const bytes = new ByteTokenizer({ eos_token: "</s>" });
  const tiny = await loadTokenizer(FOLDER);
  const spaces = await loadTokenizer(fixtureFolder("tokenizer-spaces"));
  for (const tokenizer of [bytes, tiny, spaces]) {
    for (const text of [...TEXTS, "日本語", "a</s>b"]) {
      const ids = tokenizer.encode(text);
      const pieces = await collect(decodeStream(tokenizer, ids));
      is(pieces.join(""), tokenizer.decode(ids, { skipSpecialTokens: true }));
      ok(!pieces.some((piece) => piece.includes("\uFFFD")), "no half character");
    }
  }
  equal(await collect(decodeStream(bytes, bytes.encode("日本"))), ["日", "本"]);
  const cut = bytes.encode("日本").slice(0, 5);
  equal(
    await collect(decodeStream(bytes, cut)),
    ["日", "\uFFFD"],
    "what never becomes a character",
  );
});

gpuTest("a tokenizer with ids beyond the model's vocabulary does not fit", async () => {
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  const parts = ["ids must be below 67", "vocabulary of the llama model", "got ids up to 359"];
  await refused(loadTokenizer(FOLDER, { model }), "ValueError", ...parts);
  throwsLike(() => checkTokenizer(new ByteTokenizer(), model), "ValueError", "got ids up to 255");
  await refused(generateText(model, new ByteTokenizer(), "x").next(), "ValueError", "below 67");
  model.dispose();
});

gpuTest("generated text is the text of the generated tokens", async () => {
  const model = await fromPretrained(fixtureFolder("llama-tiny"));
  const json = JSON.parse(await readFile(`${FOLDER}/tokenizer.json`, "utf8"));
  const few = Object.entries(json.model.vocab as Record<string, number>).filter(
    ([, id]) => id < 67,
  );
  const small = { ...json, model: { ...json.model, vocab: Object.fromEntries(few), merges: [] } };
  const tokenizer = await tokenizerFromJson(small);
  const prompt = tokenizer.encode("ABC");
  const tokens = await generate(model, prompt, { maxNewTokens: 12 });
  const pieces = await collect(generateText(model, tokenizer, "ABC", { maxNewTokens: 12 }));
  is(pieces.join(""), tokenizer.decode(tokens, { skipSpecialTokens: true }));
  const again = await collect(generateText(model, tokenizer, prompt, { maxNewTokens: 12 }));
  equal(again, pieces);
  model.dispose();
});

const gpt2 = sharedPath("tokenizers/gpt2");
(gpt2 ? test : test.skip)(
  "GPT-2's own tokenizer: known ids, and a book there and back",
  async () => {
    const tokenizer = await loadTokenizer(gpt2!);
    is(tokenizer.vocabSize, 50257);
    is(tokenizer.eosId, 50256);
    equal(tokenizer.encode("Hello world<|endoftext|>"), [15496, 995, 50256]);
    const book = (await readFile(sharedPath("data/tinyshakespeare.txt")!, "utf8")).slice(0, 20_000);
    is(tokenizer.decode(tokenizer.encode(book)), book);
  },
);

runTests();
