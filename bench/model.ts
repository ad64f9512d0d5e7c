// `npx tsx bench/model.ts folder [--dtype type] --json file`: what `lowrank bench -m folder` measures, kept as a row of a file.
import { parseArgs } from "node:util";
import { fromHere } from "../scripts/from_here.ts";
import { init } from "../src/gpu/device.ts";
import { BASE_DTYPES, type BaseDtype } from "../src/train/base_dtype.ts";
import { benchModel, type ModelBench } from "../src/train/bench/bench_model.ts";
import { conditions } from "../src/train/bench/timed.ts";
import { writeResults } from "./results.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { dtype: { type: "string", default: "auto" }, json: { type: "string" } },
});
const [folder] = positionals;
const dtype = values.dtype as BaseDtype;
if (!folder || !values.json || !BASE_DTYPES.includes(dtype)) {
  throw new Error(`bench: name a folder, --json file, and --dtype ${BASE_DTYPES.join(", ")}.`);
}
using gpu = await init();
const row = await benchModel(gpu, folder, { dtype, onPhase: (phase) => console.log(`${phase} …`) });
console.log(JSON.stringify(row, null, 2));
const where = conditions("model", gpu.adapterClass, gpu.description);
const key = (r: ModelBench) => `${r.parameters} ${r.dtype}`;
await writeResults(fromHere("bench", values.json), { ...where, rows: [row] }, key);
