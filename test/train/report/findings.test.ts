// Findings: each is said where the numbers show it, and nowhere else.
import { test } from "uvu";
import { equal, is, match, not, ok } from "uvu/assert";
import { Facts } from "../../../src/train/report/facts.ts";
import { type Finding, findingsOf } from "../../../src/train/report/findings.ts";
import { readRun } from "../../../src/train/report/read_run.ts";
import { inFolder } from "../../child.ts";
import { type Made, makeRun } from "./made.ts";

async function found(made: Made, more: Record<string, unknown> = {}): Promise<Finding[]> {
  return inFolder(async (folder) => {
    makeRun(folder, made);
    const run = await readRun(folder);
    return findingsOf({ ...run, facts: new Facts({ ...run.facts.json, ...more }) });
  });
}

const titles = (findings: readonly Finding[]) => findings.map(({ title }) => title).join("; ");

test("overfitting is told with the step of the best look, and only where validation turns", async () => {
  const turned = await found({ turns: 200 });
  const finding = turned.find(({ title }) => title.startsWith("Overfitting"))!;
  is(finding.title, "Overfitting after step 200");
  is(finding.kind, "bad");
  match(finding.text, /to step 400 the validation loss rose from 2\.\d+ to 2\.\d+ \(\+\d+ %\)/);
  match(finding.text, /training loss fell from 2\.\d+ to 1\.\d+/);
  not.match(titles(await found({})), "Overfitting");
});

test("with early stopping it is milder, and the kept step is named", async () => {
  const findings = await found({ turns: 200, stopped: "patience" });
  const over = findings.find(({ title }) => title.startsWith("Overfitting"))!;
  is(over.kind, "mind");
  match(over.text, "early stopping brought back the weights of step 200");
  match(findings.find(({ title }) => title === "Stopped early")!.text, "step 200");
});

test("skipped steps are counted and listed", async () => {
  const few = await found({ skipped: [41, 42] });
  const finding = few.find(({ title }) => title === "Skipped steps")!;
  is(finding.kind, "mind");
  match(finding.text, "2 steps moved nothing, for loss or gradients were not finite: 41 and 42.");
  const many = await found({ skipped: Array.from({ length: 30 }, (_, i) => i + 10) });
  const worse = many.find(({ title }) => title === "Skipped steps")!;
  is(worse.kind, "bad");
  match(worse.text, "10, 11, 12, 13, 14 and 25 more");
});

test("forgetting is weighed against the general loss", async () => {
  const of = async (forgets: number) =>
    (await found({ forgets })).find(({ title }) => /[Ff]org/.test(title))!;
  equal(
    [(await of(0.01)).kind, (await of(0.15)).kind, (await of(0.6)).kind],
    ["good", "mind", "bad"],
  );
  is((await of(0.01)).title, "Little was forgotten");
  is((await of(-0.2)).title, "Nothing was forgotten");
  const kept = await found({ forgets: 0.6 }, { general: { before: 2.9, after: 2.95 } });
  match(kept.map(({ text }) => text).join(), /from 2\.901 to 2\.950 \(\+0\.049 nats per token\)/);
  match((await of(0.6)).text, /from 2\.901 to 3\.\d+ \(\+0\.\d+ nats per token\)/);
});

test("why a run ended is told, and that one has not", async () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ ended: null, stopped: null }, "Not ended"],
    [{ stopped: "limit" }, "Stopped at a limit"],
    [{ stopped: "aborted" }, "Interrupted"],
    [{ stopped: "nonFinite" }, "Stopped at a number that is none"],
  ];
  for (const [more, title] of cases) match(titles(await found({}, more)), title);
  not.match(titles(await found({})), /Not ended|Stopped|Interrupted/);
});

test("nothing learnt, still learning, a rising loss, clipped gradients", async () => {
  match(titles(await found({ learns: -0.5 })), "The training loss rose");
  match(titles(await found({ learns: -0.5 })), "Nothing was learnt");
  match(titles(await found({ learns: 1.3 })), "Still learning at the end");
  const config = { training: { clip: 0.1 } };
  match(titles(await found({}, { config })), "Most gradients were clipped");
  not.match(titles(await found({})), "clipped");
});

test("notes of the run come as sentences, the worst findings first", async () => {
  const notes = ["lora_B is still zero in 2 layers, such as a.b", "two texts were empty."];
  const findings = await found({ turns: 200 }, { notes });
  const texts = findings.map(({ text }) => text).join("\n");
  match(texts, "lora_B is still zero in 2 layers, such as a.b.");
  match(texts, "Two texts were empty.");
  const order = findings.map(({ kind }) => ["bad", "mind", "good"].indexOf(kind));
  equal(order, [...order].sort());
  ok(order.length > 2);
});

test.run();
