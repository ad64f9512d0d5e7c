// `npx tsx bench/endurance.ts [--steps n] [--json file]`: a LoRA step of the demo's model, captured and replayed, a
// thousand times: memory that grows, and whether the last hundred are as fast as the first.

import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { arms, BASE_FOLDER } from "../examples/demo/settings.ts";
import { fromHere } from "../scripts/from_here.ts";
import { backward } from "../src/autograd/backward.ts";
import { init } from "../src/gpu/device.ts";
import { addLora } from "../src/lora/lora.ts";
import { AdamW } from "../src/nn/optim/index.ts";
import { fromPretrained } from "../src/nn/pretrained.ts";
import { capture } from "../src/tensor/capture.ts";
import { tensor } from "../src/tensor/create.ts";
import { scope } from "../src/tensor/scope.ts";
import { conditions, quantile } from "../src/train/bench/timed.ts";
import { writeResults } from "./results.ts";

const { values } = parseArgs({
  options: { json: { type: "string" }, steps: { type: "string", default: "1000" } },
});
const HUNDREDS = Math.max(2, Math.round(Number(values.steps) / 100));
/** How far the last hundred may be behind the first, and bytes that JavaScript's heap may grow by. */
const [MOST_SLOWER, MOST_HEAP] = [0.03, 200_000];
const SHAPE = [2, 32];

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const gpu = await init();
console.log(`${gpu.adapterClass}: ${gpu.description}`);
const model = await fromPretrained(BASE_FOLDER);
const lora = addLora(model, arms.lora);
const optimizer = new AdamW(lora.parameters(), { lr: 1e-4 });
const text = (step: number) => Int32Array.from({ length: 64 }, (_, i) => (i * 37 + step) % 256);
const [ids, targets] = [tensor(text(0), SHAPE), tensor(text(1), SHAPE)];
const step = capture(() => {
  const loss = model.loss(ids, targets);
  backward(loss);
  optimizer.step();
  optimizer.zeroGrad();
  return loss;
});

/** Median milliseconds of a hundred steps, and what is held after them. */
async function hundred(first: number) {
  const times: number[] = [];
  for (let i = 0; i < 100; i++) {
    using _ = scope();
    const started = performance.now();
    ids.set(text(first + i));
    targets.set(text(first + i + 1));
    await step().item();
    times.push(performance.now() - started);
  }
  for (let turn = 0; turn < 3; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { bytesReserved, bytesLive, buffersLive, tensorsLive } = gpu.stats();
  const heap = process.memoryUsage().heapUsed;
  return {
    ms: quantile(times, 0.5),
    gpu: [bytesReserved, bytesLive, buffersLive, tensorsLive],
    heap,
  };
}

await hundred(0); // compiles the kernels, captures, and lets V8 do what it will
const rows: Awaited<ReturnType<typeof hundred>>[] = [];
for (let i = 0; i < HUNDREDS; i++) {
  rows.push(await hundred(100 * i));
  const { ms, gpu: held, heap } = rows.at(-1)!;
  console.log(`steps ${100 * i} on: ${ms.toFixed(2)} ms, GPU ${held}, heap ${heap}`);
}
const [first, last] = [rows[0]!, rows.at(-1)!];
const slower = last.ms / first.ms - 1;
const grown = last.heap - first.heap;
console.log(`the last hundred: ${(100 * slower).toFixed(1)} % more time; heap ${grown} bytes more`);
if (`${last.gpu}` !== `${first.gpu}` || grown > MOST_HEAP || slower > MOST_SLOWER) {
  console.error("FAILED replayed steps must neither grow memory nor become slower.");
  process.exitCode = 1;
}
if (values.json) {
  const where = conditions("endurance", gpu.adapterClass, gpu.description);
  const named = rows.map((row, i) => ({ name: `steps ${100 * i} on`, ...row }));
  await writeResults(fromHere("bench", values.json), { ...where, rows: named }, ({ name }) => name);
}
gpu.dispose();
