import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { loadModelTensors } from "../../src/tensor/checkpoint.ts";
import { tensor } from "../../src/tensor/create.ts";
import { DTYPES } from "../../src/tensor/dtype.ts";
import { duplicateKey } from "../../src/tensor/json.ts";
import { readSafetensors } from "../../src/tensor/safetensors.ts";
import {
  loadSafetensors,
  readMetadata,
  saveSafetensors,
} from "../../src/tensor/safetensors_file.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { gpuTest, runTests, theGpu, throwsLike } from "../gpu.ts";

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function fileOf(header: unknown, data: number, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + data);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

gpuTest("safetensors: every type and shape comes back bit for bit, metadata too", () =>
  inFolder(async (folder) => {
    const tensors: Record<string, Tensor> = {};
    for (const dtype of DTYPES) {
      for (const shape of [[], [1], [3], [2, 5], [0], [4, 0, 2]]) {
        const n = shape.reduce((a, b) => a * b, 1);
        const values = Float64Array.from({ length: n }, (_, i) => (i * 7 + 3) % 11);
        tensors[`${dtype} ${shape}`] = tensor(values, shape, dtype);
      }
    }
    const path = `${folder}/a/b.safetensors`;
    await saveSafetensors(path, tensors, { format: "pt" });
    equal(await readMetadata(path), { format: "pt" });
    const loaded = await loadSafetensors(path);
    is(loaded.size, Object.keys(tensors).length);
    for (const [name, t] of Object.entries(tensors)) {
      const got = loaded.get(name)!;
      equal([got.dtype, [...got.shape]], [t.dtype, [...t.shape]], name);
      equal(await got.rawBytes(), await t.rawBytes(), name);
      got.dispose();
    }
    equal(await readdir(`${folder}/a`), ["b.safetensors"], "no temporary file stays");
    const first = await readFile(path);
    await saveSafetensors(path, tensors, { format: "pt" });
    ok(first.equals(await readFile(path)), "written twice, the same bytes");
  }),
);

const good = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

gpuTest("F5 safetensors: hostile headers are refused, naming the tensor", () => {
  const cases: [string, Uint8Array, string | RegExp][] = [
    ["too short", new Uint8Array(5), "5 bytes"],
    ["header longer than the file", fileOf({}, 0, 1000n), "a header of 1000 bytes in a file"],
    ["header of 2^63", fileOf({}, 0, 2n ** 63n), "a header of 9223372036854775808 bytes"],
    ["not JSON", fileOf("{nope", 0), "not JSON"],
    ["not an object", fileOf("[1]", 0), "not a JSON object"],
    ["not UTF-8", fileOf("\0", 0).fill(0xff, 8), "not UTF-8"],
    [
      "duplicate key",
      fileOf(`{"w":${JSON.stringify(good)},"w":${JSON.stringify(good)}}`, 8),
      '"w" twice',
    ],
    [
      "escaped duplicate",
      fileOf(`{"w":${JSON.stringify(good)},"\\u0077":${JSON.stringify(good)}}`, 8),
      '"w" twice',
    ],
    ["unknown type", fileOf({ w: { ...good, dtype: "F99" } }, 8), 'w has the unknown type "F99"'],
    [
      "type from the prototype",
      fileOf({ w: { ...good, dtype: "toString" } }, 8),
      "w has the unknown type",
    ],
    ["negative shape", fileOf({ w: { ...good, shape: [-2] } }, 8), "w has the shape [-2]"],
    ["fractional shape", fileOf({ w: { ...good, shape: [1.5] } }, 8), "w has the shape [1.5]"],
    [
      "overflowing shape",
      fileOf({ w: { ...good, shape: [2 ** 40, 2 ** 40] } }, 8),
      "w has more elements",
    ],
    [
      "size and offsets differ",
      fileOf({ w: { ...good, shape: [3] } }, 8),
      "w should take 12 bytes",
    ],
    [
      "offsets reversed",
      fileOf({ w: { ...good, data_offsets: [8, 0] } }, 8),
      "w should take 8 bytes",
    ],
    ["no offsets", fileOf({ w: { dtype: "F32", shape: [2] } }, 8), "w has the offsets"],
    ["null entry", fileOf({ w: null }, 0), "w has the unknown type"],
    ["truncated", fileOf({ w: good }, 7), "w ends 1 bytes behind the file"],
    ["overlap", fileOf({ v: good, w: { ...good, data_offsets: [4, 12] } }, 12), "w overlaps"],
    ["gap", fileOf({ v: good, w: { ...good, data_offsets: [12, 20] } }, 20), "4 bytes before w"],
    ["surplus at the end", fileOf({ w: good }, 12), "4 bytes at its end"],
    ["metadata of numbers", fileOf({ __metadata__: { a: 1 }, w: good }, 8), "__metadata__"],
    [
      "a type that has no tensor",
      fileOf({ w: { ...good, dtype: "F64", shape: [1] } }, 8),
      "w in x.safetensors must be of type",
    ],
  ];
  for (const [name, bytes, part] of cases) {
    throwsLike(
      () => readSafetensors("x.safetensors", bytes),
      "FormatError",
      part,
      /x\.safetensors/,
    );
    ok(name);
  }
  is(readSafetensors("x", fileOf({ w: good }, 8)).tensors.size, 1);
  is(readSafetensors("x", fileOf({ __proto__2: good }, 8)).tensors.size, 1);
});

gpuTest("safetensors: keys that stand twice", () => {
  is(duplicateKey('{"a":{"x":1},"b":{"x":2}}'), null);
  is(duplicateKey('{"a":["a","a"],"b":"a"}'), null);
  is(duplicateKey('{"a" : 1, "a"\n: 2}'), "a");
  is(duplicateKey('{"q\\"":1,"b":{"c":1,"c":2}}'), "c");
});

async function refused(load: Promise<unknown>, part: string): Promise<void> {
  try {
    await load;
  } catch (error) {
    is((error as Error).name, "FormatError");
    ok((error as Error).message.includes(part), (error as Error).message);
    return;
  }
  throw new Error(`nothing was refused; expected ${part}`);
}

gpuTest(
  "F5 safetensors: a damaged file loads nothing; shards are found, and must be beside the index",
  () =>
    inFolder(async (folder) => {
      const [a, b] = [tensor([1, 2]), tensor([3, 4, 5])];
      await saveSafetensors(`${folder}/one.safetensors`, { a });
      await saveSafetensors(`${folder}/two.safetensors`, { b });
      const index = (map: object) =>
        writeFile(`${folder}/model.safetensors.index.json`, JSON.stringify({ weight_map: map }));
      await index({ a: "one.safetensors", b: "two.safetensors" });
      const both = await loadModelTensors(folder);
      equal([...(await both.get("b")!.data())], [3, 4, 5]);
      for (const t of both.values()) t.dispose();
      const before = theGpu().stats().tensorsLive;
      await index({ a: "one.safetensors", b: "../two.safetensors" });
      await refused(loadModelTensors(folder), "must be the name of a .safetensors file beside");
      await index({ a: "one.safetensors", b: "three.safetensors" });
      await refused(loadModelTensors(folder), "three.safetensors cannot be read");
      await index({ a: "one.safetensors", c: "two.safetensors" });
      await refused(loadModelTensors(folder), "two.safetensors holds no c");
      await rm(`${folder}/model.safetensors.index.json`);
      await refused(loadModelTensors(folder), "model.safetensors cannot be read");
      const whole = await readFile(`${folder}/two.safetensors`);
      await writeFile(`${folder}/cut.safetensors`, whole.subarray(0, whole.length - 4));
      await refused(loadSafetensors(`${folder}/cut.safetensors`), "b ends 4 bytes behind the file");
      is(theGpu().stats().tensorsLive, before, "tensors of a failed load are freed");
    }),
);

runTests();
