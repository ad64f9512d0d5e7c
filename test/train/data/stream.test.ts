// Data larger than memory: tokens in a file, read by place, are the tokens in memory.
import { mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { type Example, ExampleSet, PackedRows } from "../../../src/train/data/index.ts";
import { loadData } from "../../../src/train/data/load.ts";
import { FileTokens, MemoryTokens } from "../../../src/train/data/token_store.ts";
import { ByteTokenizer } from "../../../src/train/text/bytes.ts";
import { Windows } from "../../../src/train/windows.ts";
import { inFolder, runNode } from "../../child.ts";

/** Examples of 0 … 299 tokens, whose ids grow from ones that take 2 bytes to the largest there are. */
function examples(n: number): Example[] {
  return Array.from({ length: n }, (_, i) => {
    const most = i < n / 2 ? 2 ** 15 : 2 ** 31;
    const ids = Int32Array.from({ length: (i * 37) % 300 }, (_, k) => (i * 7919 * (k + 1)) % most);
    return { ids, labels: ids.map((id, k) => ((i + k) % 3 === 0 ? -100 : id)) };
  });
}

test("tokens in a file are those in memory: examples, texts, fingerprints, rows", () =>
  inFolder(async (folder) => {
    const all = examples(900); // more than the pieces in which a file is written
    using memory = new ExampleSet(all);
    using file = new ExampleSet(all, await FileTokens.open(folder));
    equal(readdirSync(folder), [], "the file has no name");
    is(
      memory.tokens,
      all.reduce((n, { ids }) => n + ids.length, 0),
    );
    for (const set of [memory, file]) {
      equal([set.count, set.tokens], [900, memory.tokens]);
      for (const i of [0, 1, 449, 450, 452, 899]) equal(set.at(i), all[i]);
      equal(set.fingerprint, memory.fingerprint);
      equal(
        Array.from(set.text.slice(0, set.tokens)),
        all.flatMap(({ ids }) => [...ids]),
      );
    }
    const [a, b] = [memory, file].map((set) => new Windows(set.text, 100));
    is(a!.fingerprint, b!.fingerprint);
    equal(a!.rows(20, 3, 4), b!.rows(20, 3, 4));
    equal(a!.row(a!.count - 1), b!.row(b!.count - 1));
    const [packed, same] = [memory, file].map((set) => new PackedRows(set, 300));
    is(packed!.fingerprint, same!.fingerprint);
    for (let i = 0; i < packed!.count; i++) equal(packed!.row(i), same!.row(i));
    file.add(all[7]!);
    equal(file.at(900), all[7], "read while it is still being written");
  }));

test("a store is read across the border of what is written and what waits", () =>
  inFolder(async (folder) => {
    const [memory, file] = [
      new MemoryTokens(),
      await FileTokens.open(join(folder, "made", "here")),
    ];
    for (let n = 0; n < 20; n++) {
      const words = Uint32Array.from({ length: 12345 }, (_, i) => n * 12345 + i);
      memory.push(words);
      file.push(words);
    }
    for (const [from, to] of [
      [0, 3],
      [65530, 65540],
      [196600, 196615],
      [0, 246900],
      [246899, 246900],
    ]) {
      equal([...file.read(from!, to!)], [...memory.read(from!, to!)], `${from} to ${to}`);
    }
    equal([...file.read(7, 7)], []);
    file.dispose();
  }));

test("where no file can be made or the disk is full, the error says so", () =>
  inFolder(async (folder) => {
    const says = async (at: string) => {
      const error = await FileTokens.open(at).catch((reason: Error) => reason);
      return (error as Error).message;
    };
    writeFileSync(join(folder, "file"), "");
    match(
      await says(join(folder, "file")),
      /data: spill, .*file, must be a folder on a disk with room/,
    );
    const disk = await import("../../../src/tensor/disk.node.ts");
    const full = new (FileTokens as unknown as new (...all: unknown[]) => FileTokens)(
      "data/spill",
      disk,
      openSync("/dev/full", "w"),
    );
    let message = "";
    try {
      full.push(new Uint32Array(1 << 17));
    } catch (error) {
      message = (error as Error).message;
    }
    match(message, /data: spill, data\/spill, must be .*, got ENOSPC: no space left on device/);
    full.dispose();
  }));

test("examples of any length stay whole where no length is given: the text is the file's", () =>
  inFolder(async (folder) => {
    const text = Array.from({ length: 40000 }, (_, i) => `line ${i * i}\n`).join("");
    const path = join(folder, "a.txt");
    writeFileSync(path, text);
    const tokenizer = new ByteTokenizer();
    const { train } = await loadData(tokenizer, { train: [path] });
    ok(train.count > 5, `${train.count} pieces`);
    ok(tokenizer.decode(train.text.slice(0, train.tokens)) === text.trimEnd());
  }));

test("a file larger than the heap that Node is given, with little memory beside it", () =>
  inFolder(async (folder) => {
    const path = join(folder, "large.txt");
    const file = openSync(path, "w");
    const piece = Array.from({ length: 20000 }, (_, i) => `This is line ${i} of many.\n`).join("");
    for (let n = 0; n < 64; n++) writeSync(file, piece);
    mkdirSync(join(folder, "spill"));
    const code = `import { loadData, PackedRows, ShuffledRows } from "./src/train/data/index.ts";
      import { ByteTokenizer } from "./src/train/text/bytes.ts";
      const before = process.memoryUsage();
      let most = 0;
      const look = () => {
        const { arrayBuffers, heapUsed } = process.memoryUsage();
        most = Math.max(most, arrayBuffers + heapUsed - before.heapUsed);
      };
      const timer = setInterval(look, 20);
      const { train } = await loadData(new ByteTokenizer(), {
        train: [${JSON.stringify(path)}], length: 1024, long: "split", spill: ${JSON.stringify(join(folder, "spill"))},
      });
      const rows = new ShuffledRows(new PackedRows(train, 1024));
      for (let step = 0; step < 50; step++) { rows.rows(4, 0, step); look(); }
      clearInterval(timer);
      console.log(JSON.stringify({ tokens: train.tokens, most }));`;
    const limits = ["--max-old-space-size=32", "--import", "tsx", "--input-type=module"];
    const { code: status, stdout, stderr } = await runNode([...limits, "-e", code]);
    is(status, 0, stderr);
    const { tokens, most } = JSON.parse(stdout);
    const bytes = 64 * piece.length;
    ok(tokens > bytes && bytes > 32 * 2 ** 20, `${tokens} tokens of ${bytes} bytes`);
    ok(most < 2 * tokens, `${most} bytes were in use, and the tokens are ${4 * tokens}`);
  }));

test.run();
