// `lowrank report`: what it writes, prints and refuses.
import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { inFolder } from "../child.ts";
import { makeRun } from "../train/report/made.ts";
import { inProcess } from "./command.ts";

test("report writes the page and what else was asked for, and says what stands out", () =>
  inFolder(async (folder) => {
    makeRun(`${folder}/r`, { turns: 200 });
    const args = [
      "report",
      `${folder}/r`,
      "--tensorboard",
      `${folder}/tb`,
      "--csv",
      `${folder}/csv`,
    ];
    const ended = await inProcess(args);
    is(ended.code, 0, ended.stderr);
    match(ended.stdout, "! Overfitting after step 200.");
    match(ended.stdout, `Written: ${folder}/r/report.html`);
    match(readFileSync(`${folder}/r/report.html`, "utf8"), /^<!doctype html>/);
    ok(existsSync(`${folder}/csv/r.csv`));
    match(ended.stdout, `Written: ${folder}/tb/r/events.out.tfevents.`);
    const json = await inProcess(["report", `${folder}/r`, "--json", "-o", `${folder}/x.html`]);
    const document = JSON.parse(json.stdout);
    is(document.out, `${folder}/x.html`);
    is(document.runs[0].findings[0].title, "Overfitting after step 200");
    equal([document.tensorboard, document.csv], [[], []]);
  }));

test("report refuses what is no run, and writes nothing", () =>
  inFolder(async (folder) => {
    const ended = await inProcess(["report", folder, "--out", `${folder}/x.html`]);
    is(ended.code, 1);
    match(ended.stderr, `report: ${folder} must be the folder of a run`);
    ok(!existsSync(`${folder}/x.html`));
    is((await inProcess(["report"])).code, 2);
  }));

test.run();
