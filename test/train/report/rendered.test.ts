// The page in Chromium: light, dark, on paper and on a phone, with real and with hostile names.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { report } from "../../../src/train/report/index.ts";
import { Browser, findChromium, type View } from "../../browser_page.ts";
import { HOSTILE, makeHostile, makeHostileSweep, makeRun, makeSweep } from "./made.ts";

const VIEWS: readonly View[] = [
  { width: 1200 },
  { width: 820, dark: true },
  { width: 375 },
  { width: 794, print: true },
];

interface Seen {
  overflow: number;
  scripts: number;
  handlers: number;
  images: number;
  /** Width and height of each plot that is shown, and how many marks it has. */
  plots: { alt: string; width: number; height: number; marks: number }[];
  /** Words of plots that stand out over their plot's edge. */
  cut: string[];
  background: string;
}

const LOOK = `(() => {
  for (const details of document.querySelectorAll("details.run")) details.open = true;
  const shown = [...document.querySelectorAll(".plot svg")].filter((svg) => getComputedStyle(svg).display !== "none");
  const all = [...document.querySelectorAll("*")];
  return {
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    scripts: document.scripts.length,
    handlers: all.filter((e) => [...e.attributes].some(({ name }) => name.startsWith("on"))).length,
    images: document.images.length,
    plots: shown.map((svg) => {
      const { width, height } = svg.getBoundingClientRect();
      const marks = svg.querySelectorAll("path, rect, line, text").length;
      return { alt: svg.getAttribute("aria-label"), width, height, marks };
    }),
    cut: shown.flatMap((svg) => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll("text")].filter((text) => {
        const { left, right, top, bottom } = text.getBoundingClientRect();
        return left < box.left - 2 || right > box.right + 2 || top < box.top - 2 || bottom > box.bottom + 2;
      }).map((text) => text.textContent);
    }),
    background: getComputedStyle(document.body).backgroundColor,
  };
})()`;

const PAGES: Readonly<Record<string, (folder: string) => Promise<string[]> | string[]>> = {
  "a run": (folder) => {
    makeRun(`${folder}/wgsl-r16`, { turns: 200, skipped: [41, 42], searched: true });
    return [`${folder}/wgsl-r16`];
  },
  "three runs": (folder) => {
    makeRun(`${folder}/lora-r16`, {});
    makeRun(`${folder}/full`, { method: "full", lr: 1e-4, forgets: 0.45, learns: 1.38, seed: 5 });
    makeRun(`${folder}/dora-r8`, { method: "dora", r: 8, learns: 1.21, seed: 9 });
    return [folder];
  },
  "a sweep": (folder) => {
    makeSweep(`${folder}/sweep`);
    return [`${folder}/sweep`];
  },
  "hostile names": (folder) => {
    makeHostile(`${folder}/a`);
    makeHostile(`${folder}/b`);
    makeHostileSweep(`${folder}/s`);
    return [folder];
  },
};

const found = await findChromium();
for (const [name, make] of Object.entries(PAGES)) {
  const title = `in Chromium the page of ${name} is whole, quiet, and as wide as the screen`;
  if ("why" in found) {
    console.error(`skipped: ${found.why}`);
    test.skip(title, () => {});
    continue;
  }
  test(title, async () => {
    const folder = mkdtempSync(join(tmpdir(), "lowrank-test-"));
    try {
      const out = `${folder}/out/report.html`;
      await report(await make(`${folder}/in`), { out });
      await using browser = await Browser.start(found.path);
      const { href } = pathToFileURL(out);
      const backgrounds = new Set<string>();
      for (const view of VIEWS) {
        await browser.open(href, view);
        const seen = await browser.evaluate<Seen>(LOOK);
        const where = `${JSON.stringify(view)}: ${JSON.stringify(seen)}`;
        is(seen.overflow, 0, where);
        ok(seen.plots.length >= 4, where);
        for (const { width, height, marks, alt } of seen.plots) {
          ok(width > 200 && width <= view.width && height > 25, where);
          ok(marks > 3 && alt.length > 20, where);
        }
        if (name !== "hostile names") equal(seen.cut, [], where);
        equal([seen.scripts, seen.handlers, seen.images], [0, 0, 0], where);
        backgrounds.add(seen.background);
        if (name === "hostile names") {
          ok(
            (await browser.evaluate<string>("document.body.innerText")).includes(
              HOSTILE.slice(0, 60),
            ),
          );
        }
      }
      is(backgrounds.size, 2, "light and dark");
      equal(browser.complaints, []);
      equal(new Set(browser.requests.filter((url) => !url.startsWith("data:"))), new Set([href]));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test.run();
