// Sweeps on other machines: files of jobs, and results brought together.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match } from "uvu/assert";
import { parse } from "yaml";
import { collect, writeTrial } from "../../../src/train/sweep/collect.ts";
import { EXPORTS, exported, exportFile, startOf } from "../../../src/train/sweep/export.ts";
import {
  lineOf,
  openTasks,
  type SweepOptions,
  sweep,
  type Task,
} from "../../../src/train/sweep/sweep.ts";
import { type TrialLine, TrialsFile } from "../../../src/train/sweep/trials_file.ts";
import { refusedLater } from "./refused_later.ts";
import { bowl } from "./surface.ts";

const root = mkdtempSync(join(tmpdir(), "lowrank-elsewhere-"));
test.after(() => rmSync(root, { recursive: true }));

const space = {
  "lora.r": [4, 8, 16],
  "training.lr": { log_uniform: [1e-4, 1e-1] },
  "lora.lora_dropout": [0, 0.1],
  "lora.target_modules": ["all-linear"],
};

function resultOf({ settings, steps }: Task) {
  const validLoss = bowl(settings);
  return { validLoss, forgetting: null, steps: steps ?? 90, seconds: 1, stopped: "steps" };
}

function optionsOf(folder: string, change: Partial<SweepOptions> = {}): SweepOptions {
  const search = { search: "asha", trials: 9, steps: 27, eta: 3, seed: 2 } as const;
  return { folder, space, search, run: async (tasks) => tasks.map(resultOf), ...change };
}

for (const search of ["random", "asha", "tpe"] as const) {
  test(`${search}: exported in rounds and collected, it comes to its end elsewhere too`, async () => {
    const own = { search: { search, trials: 9, steps: 27, round: 2, seed: 2 } };
    const here = optionsOf(join(root, `${search}-here`), own);
    const there = optionsOf(join(root, `${search}-there`), own);
    const { lines } = await sweep(here);
    let rounds = 0;
    for (;;) {
      const tasks = await openTasks(there);
      if (tasks.length === 0) break;
      rounds += 1;
      // The machines end in any order.
      for (const task of [...tasks].reverse()) {
        await writeTrial(there.folder, lineOf(there, task, resultOf(task), 1));
      }
      is((await collect(there.folder)).length, tasks.length);
      equal(await collect(there.folder), [], "each result once");
    }
    is(rounds > 1, search !== "random");
    const { lines: collected } = await TrialsFile.open(`${there.folder}/trials.jsonl`);
    const settingsOf = (list: readonly TrialLine[]) =>
      list.map((line) => `${line.trial} ${JSON.stringify(line.settings)}`).sort();
    if (search === "random") equal(settingsOf(collected), settingsOf(lines));
    is(new Set(collected.map(({ trial }) => trial)).size, 9);
    // ASHA hears of a whole rung at once: it promotes 3 of 9 and 1 of 3.
    if (search === "asha") equal(collected.length, 9 + 3 + 1);
  });
}

const tasks = [0, 3, 12].map((trial) => ({ trial }) as Task);

test("Slurm: an array whose jobs each run one trial", () => {
  const text = exported("slurm", "/data/my sweep", tasks);
  match(text, "#SBATCH --array=0-2\n");
  const path = join(root, exportFile("slurm"));
  // The shell's own reading, with a command in the place of npx.
  writeFileSync(path, text.replace("npx lowrank", "printf '%s|'"));
  const said = [0, 1, 2].map((i) =>
    execFileSync("bash", [path], {
      encoding: "utf8",
      env: { ...process.env, SLURM_ARRAY_TASK_ID: `${i}` },
    }),
  );
  equal(
    said,
    ["0", "3", "12"].map((trial) => `sweep|/data/my sweep|--trial|${trial}|--quiet|`),
  );
});

test("Ray: a command for each trial", () => {
  const path = join(root, exportFile("ray"));
  writeFileSync(
    path,
    exported("ray", "it's", tasks).replaceAll("ray job submit --no-wait --", "printf '%s|'"),
  );
  const said = execFileSync("bash", [path], { encoding: "utf8" });
  equal(said, [0, 3, 12].map((t) => `npx|lowrank|sweep|it's|--trial|${t}|--quiet|`).join(""));
});

test("Kubernetes: an indexed job", () => {
  const { kind, spec } = parse(exported("k8s", "/sweep", tasks)) as {
    kind: string;
    spec: {
      completionMode: string;
      completions: number;
      template: { spec: { containers: { command: string[] }[] } };
    };
  };
  equal([kind, spec.completionMode, spec.completions], ["Job", "Indexed", 3]);
  const [bash, flag, script] = spec.template.spec.containers[0]!.command as [
    string,
    string,
    string,
  ];
  const said = execFileSync(bash, [flag, script.replace("npx lowrank", "printf '%s|'")], {
    encoding: "utf8",
    env: { ...process.env, JOB_COMPLETION_INDEX: "2" },
  });
  is(said, "sweep|/sweep|--trial|12|--quiet|");
});

test("how each file is started", () => {
  equal(
    EXPORTS.map((kind) => startOf(kind, `out/${exportFile(kind)}`)),
    ["sbatch out/sweep.sbatch", "bash out/sweep.ray.sh", "kubectl apply -f out/sweep.k8s.yaml"],
  );
});

test("a result that is none is refused by its name, and nothing of it is kept", async () => {
  const folder = join(root, "damaged");
  mkdirSync(`${folder}/trials/0000`, { recursive: true });
  const path = `${folder}/trials/0000/trial.json`;
  writeFileSync(path, '{"trial": 0');
  await refusedLater(
    () => collect(folder),
    "FormatError",
    `sweep: ${path}, line 1, must be a trial in JSON, got `,
  );
  equal(await collect(join(root, "nowhere")), []);
});

test.run();
