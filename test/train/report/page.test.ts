// The page as text: nothing hostile comes through, nothing is left empty, nothing is asked of the network.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, not, ok } from "uvu/assert";
import {
  bytes,
  count,
  duration,
  ms,
  percent,
  plain,
  signed,
} from "../../../src/train/report/format.ts";
import { escaped, html } from "../../../src/train/report/html.ts";
import { report } from "../../../src/train/report/index.ts";
import { settingText } from "../../../src/train/report/overview.ts";
import { STYLE } from "../../../src/train/report/style.ts";
import { thin } from "../../../src/train/report/thin.ts";
import { inFolder } from "../../child.ts";
import { HOSTILE, makeHostile, makeHostileSweep, makeRun, makeSweep } from "./made.ts";

async function pageOf(make: (folder: string) => void): Promise<string> {
  return inFolder(async (folder) => {
    make(folder);
    const { out } = await report([folder]);
    is(out, `${folder}/report.html`);
    return readFileSync(out, "utf8");
  });
}

const headings = (page: string) =>
  [...page.matchAll(/<h[123]>(.*?)<\/h[123]>/g)].map(([, title]) => title);

test("templates escape text and join lists; markup passes", () => {
  const name = `<b a="1" b='2'>&`;
  is(escaped(name), "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;");
  is(`${html`<i>${name}</i>${[1, null, html`<u>`]}${false}`}`, `<i>${escaped(name)}</i>1<u>`);
  is(escaped("a\u0000\u001b[31m\u202eb\tc"), "a\ufffd\ufffd[31m\ufffdb\tc");
});

test("settings as text: lists by commas, nothing as a dash", () => {
  equal([["a", "b"], {}, null, 2e-5, { a: 1 }].map(settingText), ["a, b", "–", "–", "2e-5", '{"a":1}']); // biome-ignore format: one line
});

test("the clip is told where the plot of gradient norms shows it", async () => {
  const of = (norm: number) =>
    pageOf((folder) => {
      makeRun(folder, {});
      const file = `${folder}/metrics.jsonl`;
      const lines = readFileSync(file, "utf8").replace(
        /"grad_norm":[\d.]+/g,
        `"grad_norm":${norm}`,
      );
      writeFileSync(file, lines);
    });
  match(await of(1.7), "Global, before the clip. Dotted: 1.");
  match(await of(0.4), /Global, before the clip\.<\/p>/);
});

test("a run's page has all its parts", async () => {
  const page = await pageOf((folder) => makeRun(folder, { turns: 200, skipped: [41] }));
  equal(headings(page).slice(1), [
    "Loss",
    "Learning rate",
    "Gradient norm",
    "Time per step",
    "Learning and forgetting",
    "GPU memory",
    "GPU time by op",
    "Settings",
  ]);
  match(page, "<b>Overfitting after step 200.</b>");
  match(page, "3.402 → 2.");
  match(page, "example/model-135M");
  match(page, "Example GPU");
  not.match(page, /undefined|NaN|\[object|Infinity/);
  ok(page.length < 200_000, `${page.length} bytes`);
});

test("a range test that found the rate is drawn, up to where it was finite", async () => {
  const page = await pageOf((folder) => makeRun(folder, { searched: true }));
  ok(headings(page).includes("Range test"));
  match(page, "Loss by learning rate: lowest at 0.041, taken 2e-3.");
  match(page, />1e−4</);
  not.match(page, /undefined|NaN|\[object|Infinity/);
});

test("a part without data is left out", async () => {
  const page = await pageOf((folder) => {
    mkdirSync(folder, { recursive: true });
    const lines = [3, 2, 1].map((loss, i) => JSON.stringify({ kind: "step", step: i + 1, loss }));
    writeFileSync(`${folder}/metrics.jsonl`, lines.join("\n"));
  });
  equal(headings(page).slice(1), ["Loss"]);
  match(page, "<b>Not ended.</b>");
  const empty = await pageOf((folder) => writeFileSync(`${folder}/run.json`, "{}"));
  equal(headings(empty).slice(1), []);
  not.match(empty, "<figure");
});

test("several runs: side by side, and each folded away", () =>
  inFolder(async (folder) => {
    makeRun(`${folder}/lora`, {});
    makeRun(`${folder}/full`, { method: "full", forgets: 0.5, seed: 3 });
    const written = await report([`${folder}/lora`, `${folder}/full`], { out: `${folder}/x.html` });
    equal(
      written.runs.map(({ name }) => name),
      ["lora", "full"],
    );
    const page = readFileSync(`${folder}/x.html`, "utf8");
    match(headings(page).join(), "lora and full,Loss,Learning and forgetting,GPU memory");
    match(page, /Full fine-tuning.*135 M/s);
    match(page, "<b>18.7 MiB</b>");
    match(page, "Settings that differ");
    is(page.split('<details class="run">').length, 3);
  }));

test("a sweep's page has all its parts", async () => {
  const page = await pageOf((folder) => makeSweep(folder, { trials: 16 }));
  equal(headings(page).slice(1), [
    "All trials",
    "lora_alpha by r",
    "Validation loss of the trials",
    "Learning against forgetting",
    "r",
    "lora_alpha",
    "lr",
    "target_modules",
    "Trials, the best first",
  ]);
  not.match(page, /undefined|NaN|\[object|Infinity/);
  not.match(page, "for the least");
  const weighed = await pageOf((folder) => {
    makeSweep(folder, { trials: 8 });
    const file = `${folder}/sweep.json`;
    const { sweep, ...others } = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...others, sweep: { ...sweep, forgetting_weight: 0.5 } }));
    const all = readFileSync(`${folder}/trials.jsonl`, "utf8");
    const trials = all.replace(/"lora.lora_alpha":\d+,/g, "");
    writeFileSync(
      `${folder}/trials.jsonl`,
      trials.replace(/"training.lr":[\d.e-]+/, '"training.lr":0.0204912'),
    );
  });
  match(headings(weighed).join(), "target_modules by r,", "lr differs in each trial: no map");
  match(weighed, "by asha for the least validation loss + 0.5 × forgetting");
  match(weighed, "<td>0.02049</td>");
});

test("hostile names stay text, and nothing on the page could run or fetch", () =>
  inFolder(async (folder) => {
    makeHostile(`${folder}/runs/a`);
    makeHostile(`${folder}/runs/b`);
    makeHostileSweep(`${folder}/sweep`);
    const out = `${folder}/x.html`;
    await report([`${folder}/runs`, `${folder}/sweep`], { out });
    const page = readFileSync(out, "utf8");
    match(page, escaped(HOSTILE).slice(0, 60));
    not.match(page, /<script|<img|<iframe|<object|<foreignObject|\u202e/i);
    not.match(page, /<[^>"]*("[^"]*"[^>"]*)*\son\w+=/, "no handler");
    is(page.split("</style>").length, 2, "one style sheet");
    match(page, `http-equiv="Content-Security-Policy" content="default-src 'none'; style-src`);
    not.match(page.replace(/<link rel="icon"[^>]*>/, ""), /(?:href|src)="|url\(/);
  }));

test("plots tell what they show to those who do not see them, and take their colours from the page", async () => {
  const page = await pageOf((folder) => makeRun(folder, {}));
  const plots = [...page.matchAll(/<svg(?: class="\w+")? role="img" aria-label="([^"]*)"/g)];
  ok(plots.length >= 7);
  for (const [, alt] of plots) ok(alt!.length > 20, alt);
  match(page, /aria-label="Loss by step\. [^"]*validation loss from 3\.402 to 2\.\d+/);
  not.match(page, /(?:fill|stroke)="#/);
});

/** Relative luminance and contrast of WCAG 2. */
function contrast(a: string, b: string): number {
  const light = (hex: string) => {
    const full = hex.length === 4 ? hex.replace(/[^#]/g, "$&$&") : hex;
    const [r, g, bl] = [1, 3, 5].map((i) => {
      const c = Number.parseInt(full.slice(i, i + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * bl!;
  };
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x! + 0.05) / (y! + 0.05);
}

test("text and lines stand out from the paper, in light and in dark", () => {
  const [light, dark] = [...STYLE.matchAll(/:root \{([^}]*--ink[^}]*)\}/g)].map(
    ([, body]) => new Map([...body!.matchAll(/--([\w-]+): (#\w+)/g)].map(([, k, v]) => [k!, v!])),
  );
  for (const theme of [light!, dark!]) {
    const on = (a: string, b: string) => contrast(theme.get(a)!, theme.get(b)!);
    for (const ink of ["ink", "muted", "bad", "mind", "good"]) {
      ok(on(ink, "paper") >= 4.5 && on(ink, "tint") >= 4.5, `${ink} ${on(ink, "paper")}`);
    }
    ok(on("on-low", "low") >= 4.5 && on("on-high", "high") >= 4.5);
    for (let i = 1; i <= 8; i++) ok(on(`c${i}`, "paper") >= 3, `c${i} ${on(`c${i}`, "paper")}`);
  }
});

test("numbers are short and keep their sign", () => {
  equal(
    [bytes(0), bytes(1023), bytes(1536), bytes(2 ** 30)],
    ["0 B", "1023 B", "1.5 KiB", "1.0 GiB"],
  );
  equal(
    [count(9999), count(12_345), count(139e6), count(7.24e9)],
    ["9,999", "12.3 k", "139 M", "7.2 B"],
  );
  equal([signed(0.1), signed(-0.1), signed(0)], ["+0.100", "−0.100", "±0.000"]);
  equal([percent(0.345), percent(0.0345), percent(0.0001)], ["35 %", "3.5 %", "0.01 %"]);
  equal([ms(0.5), ms(44.14), ms(123.4), ms(12_000)], ["0.50 ms", "44.1 ms", "123 ms", "12.0 s"]);
  equal([duration(3.2), duration(65), duration(7300)], ["3.2 s", "1 min 5 s", "2 h 1 min"]);
  equal([plain(0.0001), plain(16), plain(1e21), plain(0.05)], ["1e-4", "16", "1e21", "0.05"]);
});

test("a thinned curve keeps its spikes and its order", () => {
  const points = Array.from({ length: 5000 }, (_, x) => ({
    x,
    y: x === 3210 ? 99 : Math.sin(x / 50),
  }));
  const thinned = thin(points, 400, ({ y }) => y);
  ok(thinned.length <= 400);
  ok(thinned.some(({ y }) => y === 99));
  ok(thinned.every(({ x }, i) => i === 0 || x > thinned[i - 1]!.x));
  equal(
    thin(points.slice(0, 50), 400, ({ y }) => y),
    points.slice(0, 50),
  );
  const gaps = thin(points, 400, () => null);
  ok(gaps.length > 0 && gaps.length <= 400);
});

test.run();
