// Conversations: what the model is given, which adapter answers, how answers end.
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { loadAdapter } from "../../../src/lora/peft.ts";
import { generate } from "../../../src/nn/generate.ts";
import { fromPretrained } from "../../../src/nn/pretrained.ts";
import { type Answer, ChatSession } from "../../../src/train/chat/session.ts";
import { ByteTokenizer, encodeChat, loadTokenizer } from "../../../src/train/text/index.ts";
import { firstStop, untilStop } from "../../../src/train/text/stop.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, throwsLike } from "../../gpu.ts";
import { tinyWorld } from "../evaluation/tiny_world.ts";

/** All pieces, and what the answer was. */
async function whole(
  pieces: AsyncGenerator<string, Answer>,
): Promise<{ pieces: string[]; answer: Answer }> {
  // biome-ignore format: one line
  const list: string[] = [];
  for (let next = await pieces.next(); ; next = await pieces.next()) {
    if (next.done) return { pieces: list, answer: next.value };
    list.push(next.value);
  }
}

async function stopped(pieces: readonly string[], stops: readonly string[]) {
  const stream = untilStop((async function* () { yield* pieces; })(), stops); // biome-ignore format: one line
  const got: string[] = [];
  for (let next = await stream.next(); ; next = await stream.next()) {
    if (next.done) return { text: got.join(""), pieces: got, ...next.value };
    got.push(next.value);
  }
}

test("a text ends before the first of its stops, however it is cut into pieces", async () => {
  const text = "ab\ncd##e\n";
  for (const stops of [["##"], ["\n"], ["d#"], ["zz", "d##e"], ["x"], ["##e\n#"], [""], []]) {
    const at = firstStop(text, stops.filter(Boolean));
    const expected = at < 0 ? text : text.slice(0, at);
    for (let mask = 0; mask < 2 ** (text.length - 1); mask += 7) {
      const pieces = [""];
      for (const [i, c] of [...text].entries()) {
        if (i > 0 && (mask >> (i - 1)) & 1) pieces.push(c);
        else pieces[pieces.length - 1] += c;
      }
      const got = await stopped(pieces, stops);
      equal([got.text, got.stopped], [expected, at >= 0], JSON.stringify([stops, pieces]));
    }
  }
});

test("what cannot become a stop is given at once", async () => {
  const { pieces } = await stopped(["a#", "b", "#", "#"], ["##"]);
  equal(pieces, ["a", "#b"]);
});

gpuTest("a text goes on: each answer follows all that was said and written before", () =>
  inFolder(async (folder) => {
    const { model: path } = await tinyWorld(folder);
    using model = await fromPretrained(path);
    const tokenizer = new ByteTokenizer();
    const session = new ChatSession(model, tokenizer, null, { maxNewTokens: 6, stop: [] });
    is(session.isChat, false);
    const first = await whole(session.answer("Hello"));
    const expected = await generate(model, tokenizer.encode("Hello"), {
      maxNewTokens: 6,
      stop: [],
    });
    is(first.answer.text, tokenizer.decode(expected));
    is(first.pieces.join(""), first.answer.text);
    equal([first.answer.ended, first.answer.tokens, first.answer.promptTokens], ["length", 6, 5]);
    const second = await whole(session.answer(" and"));
    const so = tokenizer.encode(`Hello${first.answer.text} and`);
    is(second.answer.text, tokenizer.decode(await generate(model, so, { maxNewTokens: 6, stop: [] }))); // biome-ignore format: one line
    session.reset();
    equal((await whole(session.answer("Hello"))).answer.text, first.answer.text);
  }),
);

gpuTest("a chat is written by the template, and is cut at its start where it grows too long", () =>
  inFolder(async (folder) => {
    const { model: path } = await tinyWorld(folder, { tokenizer: "template", context: 96 });
    using model = await fromPretrained(path);
    const tokenizer = await loadTokenizer(path, { model });
    const session = new ChatSession(model, tokenizer, null, { maxNewTokens: 8, stop: [] });
    is(session.isChat, true);
    const { answer } = await whole(session.answer("one two"));
    const ids = await encodeChat(tokenizer, [{ role: "user", content: "one two" }], { addGenerationPrompt: true }); // biome-ignore format: one line
    const tokens = await generate(model, ids, { maxNewTokens: 8, stop: [] });
    is(answer.text, tokenizer.decode(tokens, { skipSpecialTokens: true }));
    equal(session.history, [{ role: "user", content: "one two" }, { role: "assistant", content: answer.text }]); // biome-ignore format: one line
    let dropped = 0;
    for (let turn = 0; turn < 12 && dropped === 0; turn++) {
      dropped = (await whole(session.answer("and more words"))).answer.dropped;
    }
    ok(dropped >= 2 && dropped % 2 === 0, `${dropped} turns were dropped, whole pairs`);
    const long = await whole(session.answer("x ".repeat(200))).catch((e: Error) => e);
    ok(long instanceof Error && /the turn must be of at most 88 tokens, .* got \d+/.test(long.message), `${long}`); // biome-ignore format: one line
    is(session.history.at(-1)?.role, "assistant", "a turn that was refused is not remembered");
  }),
);

gpuTest("who answers can be changed at any time: an adapter, a sum, the base", () =>
  inFolder(async (folder) => {
    const config = { r: 2, target_modules: ["q_proj", "down_proj"] };
    const world = await tinyWorld(folder, { adapters: { a: config, b: config } });
    using model = await fromPretrained(world.model);
    const lora = await loadAdapter(model, world.adapters.a!, "a");
    await loadAdapter(lora, world.adapters.b!, "b");
    const session = new ChatSession(model, new ByteTokenizer(), lora, {
      maxNewTokens: 8,
      stop: [],
    });
    const said = async (who: string) => {
      session.use(who);
      session.reset();
      return (await whole(session.answer("Once"))).answer.text;
    };
    equal([session.adapters, session.active], [["a", "b"], ["a"]]);
    const texts = new Map<string, string>();
    for (const who of ["a", "b", "a,b", "base"]) texts.set(who, await said(who));
    is(new Set(texts.values()).size, 4, "all differ");
    for (const [who, text] of [...texts].reverse()) is(await said(who), text, who);
    session.use("base");
    equal(session.active, []);
    session.use("b, a");
    equal(session.active, ["b", "a"]);
    throwsLike(() => session.use("bb"), "ValueError", "the name must be one of a, b, base, got bb. Did you mean b?"); // biome-ignore format: one line
    equal(session.active, ["b", "a"], "nothing changed");
    using plain = await fromPretrained(world.model);
    const base = new ChatSession(plain, new ByteTokenizer(), null, { maxNewTokens: 8, stop: [] });
    is((await whole(base.answer("Once"))).answer.text, texts.get("base"));
    throwsLike(() => base.use("a"), "ValueError", "one of base, got a");
  }),
);

gpuTest(
  "an answer ends at a stop, when it is asked to, and when the listener goes; what was said stays",
  () =>
    inFolder(async (folder) => {
      const { model: path } = await tinyWorld(folder);
      using model = await fromPretrained(path);
      const tokenizer = new ByteTokenizer();
      const make = (stopTexts: string[] = []) =>
        new ChatSession(model, tokenizer, null, { maxNewTokens: 10, stop: [], stopTexts });
      const full = (await whole(make().answer("Hello"))).answer.text;
      const cut = await whole(make([full.slice(3, 5)]).answer("Hello"));
      const at = full.indexOf(full.slice(3, 5));
      equal([cut.answer.text, cut.answer.ended], [full.slice(0, at), "stop"]);
      const controller = new AbortController();
      const session = make();
      const pieces = session.answer("Hello", controller.signal);
      const first = (await pieces.next()).value as string;
      controller.abort();
      const { answer } = await whole(pieces);
      is(answer.ended, "aborted");
      ok(answer.text.startsWith(first) && answer.text.length < full.length);
      is(session.history.at(-1)?.content, answer.text);
      for await (const _ of make().answer("Hello")) break;
      is((await whole(session.answer("again"))).answer.ended, "length", "and it goes on");
    }),
);

gpuTest("with a temperature turns draw their own numbers, the same for the same seed", () =>
  inFolder(async (folder) => {
    const { model: path } = await tinyWorld(folder, { tokenizer: "template", context: 128 });
    using model = await fromPretrained(path);
    const tokenizer = await loadTokenizer(path, { model });
    const run = async (seed: number) => {
      const settings = { maxNewTokens: 8, temperature: 1, seed, stop: [] };
      const session = new ChatSession(model, tokenizer, null, settings);
      const one = (await whole(session.answer("word"))).answer.text;
      return [one, (await whole(session.answer("word"))).answer.text];
    };
    const first = await run(3);
    equal(await run(3), first);
    ok(`${await run(4)}` !== `${first}`);
  }),
);

runTests();
