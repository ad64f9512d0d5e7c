// `npx tsx bench/start.ts [--json file]`: how long the first training step takes in a new process, with empty cache
// folders and with those that it left: a LoRA step of the demo's model, on the adapter of LOWRANK_ADAPTER.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { baseCorpus } from "../examples/demo/corpora.ts";
import { arms, BASE_FOLDER } from "../examples/demo/settings.ts";
import { fromHere } from "../scripts/from_here.ts";
import { init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/lora.ts";
import { fromPretrained } from "../src/nn/pretrained.ts";
import { conditions } from "../src/train/bench/timed.ts";
import { fit } from "../src/train/fit.ts";
import { Windows } from "../src/train/windows.ts";
import { writeResults } from "./results.ts";

/** Seconds from the start of the process, as the child prints them. */
interface Started {
  adapter: string;
  description: string;
  device: number;
  model: number;
  firstStep: number;
  secondStep: number;
}

/** Most seconds until the first step has run, with empty caches. */
const MOST = { lavapipe: 20 };

const { values } = parseArgs({
  options: { json: { type: "string" }, child: { type: "boolean", default: false } },
});
if (values.child) await start();
else await compare();

async function start(): Promise<void> {
  const seconds = () => performance.now() / 1000;
  const gpu = await init();
  const device = seconds();
  const model = await fromPretrained(BASE_FOLDER);
  addLora(model, arms.lora);
  await gpu.sync();
  const loaded = seconds();
  const steps: number[] = [];
  const { train } = await baseCorpus();
  await fit(model, {
    train: new Windows(train, arms.length),
    steps: 2,
    batch: arms.batch,
    lr: 1e-3,
    onStep: () => {
      steps.push(seconds());
    },
  });
  const { adapterClass: adapter, description } = gpu;
  const [firstStep, secondStep] = steps as [number, number];
  const started: Started = { adapter, description, device, model: loaded, firstStep, secondStep };
  console.log(JSON.stringify(started));
  gpu.dispose();
}

/** One child after another with the same cache folders, empty at first. */
async function compare(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-start-"));
  try {
    const rows = ["empty caches", "caches of the run before"].map((caches) => {
      const row = { caches, ...child(folder) };
      const parts = ["device", "model", "firstStep", "secondStep"] as const;
      console.log(`${caches}: ${parts.map((p) => `${p} ${row[p].toFixed(1)} s`).join(", ")}`);
      return row;
    });
    const cold = rows[0]!;
    const most = MOST[cold.adapter as keyof typeof MOST] ?? Infinity;
    if (cold.firstStep > most) {
      console.error(`FAILED the first step must have run within ${most} s.`);
      process.exitCode = 1;
    }
    if (!values.json) return;
    const where = conditions("start", cold.adapter, cold.description);
    await writeResults(fromHere("bench", values.json), { ...where, rows }, (row) => row.caches);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function child(folder: string): Started {
  const args = ["--import", "tsx", import.meta.filename, "--child"];
  const env = {
    ...process.env,
    MESA_SHADER_CACHE_DIR: join(folder, "mesa"),
    LOWRANK_CACHE: join(folder, "lowrank"),
  };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
  if (status !== 0) throw new Error(`start: the child ended with ${status}: ${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}
