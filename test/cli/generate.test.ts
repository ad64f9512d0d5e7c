// `lowrank generate`, run as a user runs it: one text, a chat over a scripted stdin, and what is wrong.
import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { PassThrough } from "node:stream";
import { equal, is, match, not, ok } from "uvu/assert";
import { chat } from "../../src/cli/chat.ts";
import { loadAdapter } from "../../src/lora/peft.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { ChatSession } from "../../src/train/chat/session.ts";
import { ByteTokenizer } from "../../src/train/text/index.ts";
import { inFolder, root } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";
import { tinyWorld, type World } from "../train/evaluation/tiny_world.ts";
import { inProcess } from "./command.ts";

const CONFIG = { r: 2, target_modules: ["q_proj", "down_proj"] };

/** Runs the command in a process of its own, with text on its stdin, which stays open where that is null; `onText` sees what comes. */
function piped(
  args: readonly string[],
  input: string | null,
  onText: (text: string, child: ReturnType<typeof spawn>) => void = () => {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((done, fail) => {
    const all = ["--import", "tsx", "src/cli/main.ts", ...args];
    const child = spawn(process.execPath, all, { cwd: root });
    const seen = { stdout: "", stderr: "" };
    for (const pipe of ["stdout", "stderr"] as const) {
      child[pipe].setEncoding("utf8").on("data", (text: string) => {
        seen[pipe] += text;
        if (pipe === "stdout") onText(seen.stdout, child);
      });
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), 120_000);
    child.on("error", fail).on("close", (code) => {
      clearTimeout(timer);
      done({ code, ...seen });
    });
    if (input !== null) child.stdin.end(input);
    else child.stdin.write("Hello\n");
  });
}

/** What a model, with an adapter perhaps, writes after a prompt. */
async function expected(
  world: World,
  prompt: string,
  n: number,
  adapter?: string,
): Promise<string> {
  using model = await fromPretrained(world.model);
  if (adapter) await loadAdapter(model, world.adapters[adapter]!);
  const tokenizer = new ByteTokenizer();
  return tokenizer.decode(await generate(model, tokenizer.encode(prompt), { maxNewTokens: n, stop: [] })); // biome-ignore format: one line
}

gpuTest(
  "a text from the base, from an adapter and from its run, as text and as JSON; the prompt from a pipe",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: CONFIG, b: CONFIG } });
      cpSync(world.adapters.a!, `${folder}/run/adapter`, { recursive: true });
      const [base, a] = [await expected(world, "Once", 8), await expected(world, "Once", 8, "a")];
      not.equal(base, a);
      const common = ["generate", "--max-tokens", "8"];
      const calls: [string[], string | null, string][] = [
        [["-m", world.model, "--prompt", "Once"], "", base],
        [["-m", world.model], "Once\n", base],
        [["-a", `${folder}/run`, "--prompt", "Once"], "", a], // the base is what the adapter names
        [
          ["-a", world.adapters.a!, "-a", world.adapters.b!, "--use", "base", "-p", "Once"],
          "",
          base,
        ],
      ];
      const ends = await Promise.all(
        calls.map(([args, input]) => piped([...common, ...args], input)),
      );
      for (const [i, ended] of ends.entries()) {
        is(ended.code, 0, ended.stderr);
        is(ended.stdout, `${calls[i]![2]}\n`, calls[i]![0].join(" "));
      }
      const json = await piped([...common, "-a", world.adapters.a!, "-p", "Once", "--json"], "");
      const { tokens_per_second, seconds, ...facts } = JSON.parse(json.stdout);
      ok(tokens_per_second > 0 && seconds > 0);
      equal(facts, { model: world.model, adapters: ["a"], prompt: "Once", text: a, ended: "length", prompt_tokens: 4, tokens: 8, dropped: 0 }); // biome-ignore format: one line
    }),
);

gpuTest("a stop ends the text; sampling flags count", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder);
    const full = await expected(world, "Once", 8);
    const stop = full.slice(3, 5);
    const args = ["generate", "-m", world.model, "-p", "Once", "-n", "8"];
    const cut = await piped([...args, "--stop", stop, "--json"], "");
    equal([JSON.parse(cut.stdout).text, JSON.parse(cut.stdout).ended], [full.slice(0, full.indexOf(stop)), "stop"]); // biome-ignore format: one line
    const drawn = (seed: string) => piped([...args, "--temperature", "2", "--seed", seed], "");
    const [one, again, other] = await Promise.all([drawn("1"), drawn("1"), drawn("2")]);
    is(one!.stdout, again!.stdout);
    not.equal(one!.stdout, other!.stdout);
  }),
);

/** A chat in this process, over lines that are all there at once. */
async function scripted(session: ChatSession, lines: readonly string[]) {
  const [input, output, notes] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const seen = { output: "", notes: "" };
  output.setEncoding("utf8").on("data", (text: string) => { seen.output += text; }); // biome-ignore format: one line
  notes.setEncoding("utf8").on("data", (text: string) => { seen.notes += text; }); // biome-ignore format: one line
  input.end(`${lines.join("\n")}\n`);
  const answers = await chat(session, { input, output, notes });
  await new Promise((done) => setImmediate(done));
  return { answers, ...seen };
}

gpuTest(
  "a chat: adapters switch on the fly, settings change, mistakes are told and end nothing",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { adapters: { a: CONFIG, b: CONFIG } });
      using model = await fromPretrained(world.model);
      const lora = await loadAdapter(model, world.adapters.a!, "a");
      await loadAdapter(lora, world.adapters.b!, "b");
      const session = new ChatSession(model, new ByteTokenizer(), lora, {
        maxNewTokens: 6,
        stop: [],
      });
      const turn = (who: string) => [`/adapter ${who}`, "/reset", "Once"];
      const { answers, output, notes } = await scripted(session, [
      ...turn("a"), ...turn("b"), ...turn("base"), ...turn("a,b"), ...turn("a"),
      "/adapters", "/adapter c", "/adaptor a", "/temperature warm", "/temperature 0.5", "/temperature",
      "/max 3", "/help", "/system Be brief.", "/system", "/seed 4", "x".repeat(100), "/quit", "never said",
    ]); // biome-ignore format: as a table
      is(answers, 5);
      const a = await expected(world, "Once", 6, "a");
      const b = await expected(world, "Once", 6, "b");
      const base = await expected(world, "Once", 6); // biome-ignore format: one line
      const told = output.split("\n");
      ok(output.startsWith(`${a}\n${b}\n${base}\n`), "each answers as alone");
      ok(output.endsWith(`${a}\n`), "and again");
      ok(told.length >= 5);
      for (const part of [
      "a answers now.", "b answers now.", "base answers now.", "a + b answer now.", "All turns are forgotten.",
      "* a\n  b\n  base", "the name must be one of a, b, base, got c.", "there is no /adaptor. Did you mean /adapter? See /help.",
      "temperature must be a number of at least 0, got warm", "temperature is 0.5 now.", "temperature is 0.5.",
      "max is 3 now.", "/top-p N", "The system is told that first.", "The system is told nothing.", "seed is 4 now.",
      "chat: the turn must be of at most 61 tokens", "(ended after 6 tokens; /max N allows more)",
    ]) ok(notes.includes(part), `${part} is not in ${notes}`); // biome-ignore format: as a table
      not.match(output + notes, "never said");
    }),
);

gpuTest(
  "a line that ends with a backslash goes on; empty lines say nothing; the end of the input ends the chat",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder);
      using model = await fromPretrained(world.model);
      const session = new ChatSession(model, new ByteTokenizer(), null, {
        maxNewTokens: 2,
        stop: [],
      });
      const { answers } = await scripted(session, ["", "  ", "one\\", "two"]);
      is(answers, 1);
      is(session.history[0]?.content, "one\ntwo");
    }),
);

gpuTest(
  "in a process of its own: Ctrl-C stops the answer and not the program; then it goes on and /quit leaves",
  () =>
    inFolder(async (folder) => {
      const world = await tinyWorld(folder, { context: 2048, adapters: { a: CONFIG } });
      let phase = 0;
      const args = ["generate", "-m", world.model, "-a", world.adapters.a!, "-i", "-n", "1900"];
      const ended = await piped(args, null, (text, child) => {
      if (phase === 0 && text.length > 4) {
        phase = 1;
        child.kill("SIGINT");
      } else if (phase === 1 && text.endsWith("\n")) {
        phase = 2;
        child.stdin!.end("/adapter base\n/max 4\n/reset\nOnce\n/quit\n");
      }
    }, ); // biome-ignore format: one call
      is(ended.code, 0, ended.stderr);
      match(ended.stderr, "(stopped)");
      match(ended.stderr, "base answers now.");
      ok(ended.stdout.endsWith(`\n${await expected(world, "Once", 4)}\n`), ended.stdout.slice(-80));
    }),
);

gpuTest("what is wrong: exit codes and messages, and nothing on stdout", () =>
  inFolder(async (folder) => {
    const world = await tinyWorld(folder, { adapters: { a: CONFIG } });
    const m = ["generate", "-m", world.model];
    const calls: [string[], number, string | RegExp][] = [
      [["generate", "-p", "x"], 2, "lowrank: --model must be given, got nothing."],
      [[...m, "-i", "-p", "x"], 2, "--prompt must be absent with --interactive, got both."],
      [[...m, "-i", "--json"], 2, "--json must be absent with --interactive"],
      [[...m, "-p", "x", "--use", "a"], 2, "--use must be given with --adapter, got none."],
      [[...m, "-p", "x", "--temperature", "hot"], 2, '--temperature must be a number of at least 0, got "hot"'], // biome-ignore format: one line
      [[...m, "-p", "x", "--temperature", "-1"], 2, "--temperature must be a number of at least 0, got -1."], // biome-ignore format: one line
      [[...m, "-p", "x", "-n", "1.5"], 2, "--max-tokens must be an integer of at least 0, got 1.5."],
      [[...m, "-p", "x", "--top-p", "2"], 2, "--top-p must be a number above 0 and at most 1, got 2."], // biome-ignore format: one line
      [[...m, "-p", "x", "--top-k", "0"], 2, "--top-k must be a positive integer, got 0."],
      [[...m, "-p", "x", "--system", "s"], 2, "--system must be given with a tokenizer that has a chat template, got one without."], // biome-ignore format: one line
      [[...m, "-p", "x", "--dtype", "f8"], 2, '--dtype must be one of auto, f32, f16, bf16, int8, nf4, got "f8"'], // biome-ignore format: one line
      [[...m, "-p", "x", "--chat"], 2, "--chat must be given with a tokenizer that has a chat template, got one without."],
      [["generate", "-m", `${folder}/none`, "-p", "x"], 1, "which is not there"],
      [[...m, "-a", world.model, "-p", "x"], 1, "the adapter must be a folder with adapter_config.json"],
      [[...m, "-a", world.adapters.a!, "-p", "x", "--use", "b"], 1, "one of a, base, got b"],
      [[...m, "-p", "x".repeat(80)], 1, "of at most 48 tokens"],
    ]; // biome-ignore format: as a table
    for (const [args, code, message] of calls) {
      const ended = await inProcess(args);
      is(ended.code, code, `${args.join(" ")}\n${ended.stderr}`);
      match(ended.stderr, message);
      is(ended.stdout, "", args.join(" "));
    }
  }),
);

runTests();
