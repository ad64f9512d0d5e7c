// training.lr auto: a rate found before training, recorded, kept by a run that goes on, and each method's own.
import { readFileSync, rmSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import {
  compareMethods,
  type Method,
  type RunSummary,
  readRun,
  trainRun,
} from "../../../src/train/recipe/index.ts";
import { inFolder } from "../../child.ts";
import { gpuTest, runTests, theGpu } from "../../gpu.ts";
import { type Change, rejects, tinyConfig, writeTinyData } from "./tiny_recipe.ts";

const inTiny = (body: (folder: string) => Promise<void>) => () =>
  inFolder(async (folder) => {
    writeTinyData(folder);
    await body(folder);
  });

const adapterBytes = (run: string) => readFileSync(`${run}/adapter/adapter_model.safetensors`);

/** The tiny run with a rate, in a folder of that name. */
const at = (folder: string, name: string, lr: number | "auto", change: Change = {}) =>
  tinyConfig(folder, { output: `${folder}/${name}`, ...change, training: { lr, batch: 4 } });

gpuTest(
  "a rate is found on the run's rows and recorded, and the run is to the bit the one that is given it",
  inTiny(async (folder) => {
    const live: number[] = [];
    for (const method of ["lora", "lora-fa", "lora+"] as const) {
      const seen: number[] = [];
      const searched = await trainRun(at(folder, method, "auto", { method }), {
        onRateStep: (_, step, steps) => void seen.push(step / steps),
      });
      const { lr, lowest, diverged, points } = searched.found_rate!;
      is(searched.config.training.lr, lr);
      ok(lr < lowest && (diverged === null || lowest < diverged), `${lr} ${lowest} ${diverged}`);
      equal([seen.length, seen[0]], [points.length, 1 / 40]);
      ok(points.every((p, i) => i === 0 || p.lr > points[i - 1]!.lr));
      equal(await readRun(searched.folder), JSON.parse(JSON.stringify(searched)));
      ok(searched.valid!.after! < searched.valid!.before, `${method}: it learnt`);
      const given = await trainRun(at(folder, `${method} given`, lr, { method }));
      is(given.found_rate, null);
      equal(adapterBytes(searched.folder), adapterBytes(given.folder), method);
      live.push(theGpu().stats().tensorsLive);
    }
    equal(new Set(live).size, 1, `no tensor stays behind: ${live}`);
  }),
);

gpuTest(
  "a run that goes on keeps its rate and does not search again",
  inTiny(async (folder) => {
    const config = at(folder, "run", "auto");
    const first = await trainRun(config, { limits: { steps: 2 } });
    const never = {
      onRateStep: () => {
        throw new Error("searched again");
      },
    };
    const last = await trainRun({ ...config, resume: true }, never);
    equal([last.stopped, last.found_rate], ["steps", first.found_rate]);
    const whole = await trainRun(at(folder, "whole", first.config.training.lr));
    equal(adapterBytes(last.folder), adapterBytes(whole.folder));
    // Killed before its first checkpoint it begins anew, at the rate that it had.
    rmSync(`${last.folder}/checkpoint`, { recursive: true });
    const anew = await trainRun({ ...config, resume: "if-present" }, never);
    equal(adapterBytes(anew.folder), adapterBytes(whole.folder));
  }),
);

gpuTest(
  "each of several methods finds its own rate, that of full fine-tuning the lowest",
  inTiny(async (folder) => {
    const { arms } = await compareMethods(at(folder, "both", "auto"), ["lora", "full"]);
    const runs = arms.map(({ folder: run }) => readRun(run) as Promise<RunSummary>);
    const [lora, full] = (await Promise.all(runs)).map((run) => run.found_rate!.lr);
    ok(full! < lora!, `${full} ${lora}`);
    equal(
      arms.map(({ method, lr }) => [method, lr] satisfies [Method, number]),
      [
        ["lora", lora!],
        ["full", full!],
      ],
    );
    const mixed = { ...at(folder, "mixed", 1), training: { steps: 1, lr: { lora: "auto", full: 1e-3 } } }; // biome-ignore format: one line
    const given = await compareMethods(mixed, ["full", "lora"]);
    is(given.arms[0]!.lr, 1e-3);
    ok((await readRun(given.arms[1]!.folder))!.found_rate);
  }),
);

gpuTest(
  "a search that is interrupted, or sees the loss fall nowhere, ends the run before anything is written",
  inTiny(async (folder) => {
    const controller = new AbortController();
    const onRateStep = (_: unknown, step: number) => void (step === 3 && controller.abort());
    const run = trainRun(at(folder, "run", "auto"), { signal: controller.signal, onRateStep });
    await rejects(run, "Interrupted", "before the first step");
    is(await readRun(`${folder}/run`), null);
    const still = at(folder, "run", "auto", { lora: { r: 1, lora_alpha: 1e-30 } });
    await rejects(
      trainRun(still),
      "ValueError",
      "train: training.lr must be a rate, for the range test saw the loss fall at none, got auto.",
    );
    is(await readRun(`${folder}/run`), null);
    const wrong = { ...at(folder, "run", 1), training: { lr: "fast" } };
    await rejects(trainRun(wrong), "ConfigError", 'training.lr must be a number above 0, or auto, got "fast"'); // biome-ignore format: one line
  }),
);

runTests();
