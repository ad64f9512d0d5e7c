// The hub: a server of our own, the cache's layout, downloads that break, offline mode.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { fromHub, type HubOptions, type HubProgress, snapshot } from "../../src/train/hub/index.ts";
import { loadTokenizer } from "../../src/train/text/index.ts";
import { fixtureFolder } from "../fixtures.ts";
import { gpuTest, runTests, throwsLike } from "../gpu.ts";
import { COMMIT, type HubServer, startHub } from "./hub_server.ts";

const MODEL = fixtureFolder("qwen2-tiny");
const SHARDS = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
const WANTED = [
  "chat_template.jinja",
  "config.json",
  ...SHARDS,
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

/** A repository with a sharded model, a tokenizer, and what nobody here wants. */
async function repository(): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const text = (content: string) => new TextEncoder().encode(content);
  files.set("README.md", text("# tiny"));
  files.set("pytorch_model.bin", text("pickle"));
  files.set("model.fp16.safetensors", text("another form"));
  files.set("onnx/model.safetensors", text("in a folder"));
  files.set("../../../escaped.json", text("{}"));
  files.set("empty.json", text(""));
  for (const name of ["config.json", "model.safetensors.index.json", ...SHARDS]) {
    files.set(name, await readFile(join(MODEL, name)));
  }
  const tokenizer = fixtureFolder("tokenizer-tiny");
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    files.set(name, await readFile(join(tokenizer, name)));
  }
  return files;
}

interface Place {
  hub: HubServer;
  cacheDir: string;
  blobs: string;
  files: Map<string, Uint8Array>;
  options: HubOptions;
}

async function withHub(body: (place: Place) => Promise<void>): Promise<void> {
  const cacheDir = await mkdtemp(join(tmpdir(), "lowrank-hub-"));
  const files = await repository();
  const hub = await startHub(files);
  const blobs = join(cacheDir, "models--org--tiny/blobs");
  try {
    await body({ hub, cacheDir, blobs, files, options: { cacheDir, endpoint: hub.url } });
  } finally {
    await hub.close();
    await rm(cacheDir, { recursive: true });
  }
}

async function refused(promise: Promise<unknown>, name: string, ...parts: string[]): Promise<void> {
  const error = await promise.then(
    () => null,
    (e) => e,
  );
  throwsLike(
    () => {
      if (error) throw error;
    },
    name,
    ...parts,
  );
}

/** Requests for content, not for a size. */
const downloads = (hub: HubServer) =>
  hub.log.filter((line) => /resolve|cdn/.test(line) && !line.endsWith(" 0-0"));

/** The name of a large file's blob. */
const blobOf = (content: Uint8Array) => createHash("sha256").update(content).digest("hex");

gpuTest(
  "fromHub loads a model and its tokenizer; the environment says where from and where to",
  () =>
    withHub(async ({ hub, cacheDir }) => {
      const before = { ...process.env };
      Object.assign(process.env, { HF_ENDPOINT: `${hub.url}/`, HF_HUB_CACHE: cacheDir });
      try {
        const seen: string[] = [];
        const load = { onProgress: ({ name }: { name: string }) => seen.push(name) };
        const model = await fromHub("org/tiny", { load });
        is(seen.length, model.stateDict().size);
        const same = await fromPretrained(MODEL);
        const logits = async (m: typeof model) =>
          noGrad(() => m.call(tensor(Int32Array.of(1, 2, 3), [1, 3]))).data();
        equal(await logits(model), await logits(same));
        const tokenizer = await loadTokenizer(await snapshot("org/tiny"));
        is(tokenizer.vocabSize, 360);
        model.dispose();
        same.dispose();
      } finally {
        process.env = before;
      }
    }),
);

test("the cache has the layout of Hugging Face's tools, and only what is wanted", () =>
  withHub(async ({ hub, cacheDir, files, options }) => {
    const folder = await snapshot("org/tiny", options);
    const root = join(cacheDir, "models--org--tiny");
    is(folder, join(root, "snapshots", COMMIT));
    equal((await readdir(folder)).sort(), [...WANTED, "empty.json"].sort());
    is(await readFile(join(root, "refs/main"), "utf8"), COMMIT);
    const etag = blobOf(files.get(SHARDS[0]!)!);
    is(await readlink(join(folder, SHARDS[0]!)), `../../blobs/${etag}`);
    for (const name of WANTED)
      ok((await readFile(join(folder, name))).equals(files.get(name)!), name);
    const { scanCacheDir } = await import("@huggingface/hub");
    const { repos, warnings } = await scanCacheDir(cacheDir);
    equal([repos.length, repos[0]!.id.name, warnings.length], [1, "org/tiny", 0]);
    equal(
      repos[0]!.revisions.map(({ commitOid, refs }) => [commitOid, refs]),
      [[COMMIT, ["main"]]],
    );
    ok(!hub.log.some((line) => /README|bin|fp16|onnx|escaped/.test(line)));
  }));

test("what is in the cache is not downloaded again, and progress counts it", () =>
  withHub(async ({ hub, files, options }) => {
    const progress: HubProgress[] = [];
    const onProgress = (p: HubProgress) => progress.push(p);
    await snapshot("org/tiny", { ...options, onProgress });
    const total = WANTED.reduce((sum, name) => sum + files.get(name)!.length, 0);
    ok(progress.every(({ bytesTotal }) => bytesTotal === total));
    ok(progress.every(({ bytesDone }, i) => i === 0 || bytesDone >= progress[i - 1]!.bytesDone));
    is(progress.at(-1)!.bytesDone, total);
    hub.log.length = 0;
    await snapshot("org/tiny", { ...options, revision: "v1" });
    equal(downloads(hub), []);
    const some = (path: string) => path === "README.md";
    const folder = await snapshot("org/tiny", { ...options, files: some });
    is(downloads(hub).length, 1);
    is(await readFile(join(folder, "README.md"), "utf8"), "# tiny");
  }));

test("offline, by variable or option: the cache alone, and an error for what it lacks", () =>
  withHub(async ({ hub, cacheDir, options }) => {
    const folder = await snapshot("org/tiny", { ...options, revision: "refs/pr/1" });
    hub.log.length = 0;
    const offline = { ...options, localFilesOnly: true };
    is(await snapshot("org/tiny", { ...offline, revision: "refs/pr/1" }), folder);
    is(await snapshot("org/tiny", { ...offline, revision: COMMIT }), folder);
    const parts = ["org/tiny at main", "in the cache, for this is offline mode", "got nothing"];
    await refused(snapshot("org/tiny", offline), "LowrankError", ...parts);
    process.env.HF_HUB_OFFLINE = "1";
    try {
      is(await snapshot("org/tiny", { cacheDir, revision: "refs/pr/1" }), folder);
      await refused(snapshot("org/other", options), "LowrankError", "offline mode");
    } finally {
      delete process.env.HF_HUB_OFFLINE;
    }
    equal(hub.log, [], "nothing was asked");
  }));

test("a connection that breaks is taken up where it broke, within a call", () =>
  withHub(async ({ hub, files, options }) => {
    const shard = SHARDS[1]!;
    const only = (path: string) => path === shard;
    hub.cuts = [1000, 3000, 0, 500];
    const folder = await snapshot("org/tiny", { ...options, files: only });
    ok((await readFile(join(folder, shard))).equals(files.get(shard)!));
    const last = files.get(shard)!.length - 1;
    const starts = downloads(hub)
      .filter((line) => line.includes("cdn"))
      .map((line) => line.split(" ")[2] ?? "all");
    equal(starts, ["all", `1000-${last}`, `4000-${last}`, `4000-${last}`, `4500-${last}`]);
  }));

test("a download that was given up goes on in the next call", () =>
  withHub(async ({ hub, files, blobs, options }) => {
    const shard = SHARDS[1]!;
    const given = { ...options, files: (path: string) => path === shard };
    hub.cuts = [2000, 0, 0, 0, 0];
    const parts = [
      shard,
      `${files.get(shard)!.length} bytes, got 2000, then`,
      "goes on from there",
    ];
    await refused(snapshot("org/tiny", given), "LowrankError", ...parts);
    const etag = blobOf(files.get(shard)!);
    equal(await readdir(blobs), [`${etag}.lowrank.incomplete`]);
    hub.log.length = 0;
    const progress: number[] = [];
    const onProgress = ({ bytesDone }: HubProgress) => progress.push(bytesDone);
    const folder = await snapshot("org/tiny", { ...given, onProgress });
    is(progress[0], 2000);
    ok((await readFile(join(folder, shard))).equals(files.get(shard)!));
    ok(
      downloads(hub)
        .at(-1)!
        .endsWith(` 2000-${files.get(shard)!.length - 1}`),
    );
    equal(await readdir(blobs), [etag], "no part stays");
  }));

test("the part of a process that is gone is taken over, that of one at work is left alone", () =>
  withHub(async ({ hub, files, blobs, options }) => {
    const shard = SHARDS[0]!;
    const given = { ...options, files: (path: string) => path === shard };
    const content = files.get(shard)!;
    const etag = blobOf(content);
    const { mkdir } = await import("node:fs/promises");
    await mkdir(blobs, { recursive: true });
    const gone = spawnSync(process.execPath, ["-e", "0"]).pid;
    const theirs = join(blobs, `${etag}.lowrank.${process.ppid}.incomplete`);
    await writeFile(theirs, content.subarray(0, 7));
    await writeFile(join(blobs, `${etag}.lowrank.${gone}.incomplete`), content.subarray(0, 900));
    await snapshot("org/tiny", given);
    ok(
      downloads(hub)
        .at(-1)!
        .endsWith(` 900-${content.length - 1}`),
    );
    is((await readFile(theirs)).length, 7);
    ok((await readFile(join(blobs, etag))).equals(content));
  }));

test("content that is not what was listed is removed, and the next call gets it right", () =>
  withHub(async ({ hub, files, blobs, options }) => {
    hub.damages = true;
    const parts = ["with the hash", "It was removed"];
    await refused(snapshot("org/tiny", options), "FormatError", ...parts);
    hub.damages = false;
    const shard = SHARDS[2]!;
    const given = { ...options, files: (path: string) => path === shard };
    hub.cuts = [100, 0, 0, 0, 0];
    await refused(snapshot("org/tiny", given), "LowrankError", "got 100");
    hub.ignoresRanges = true;
    await refused(snapshot("org/tiny", given), "FormatError", shard, "with the hash");
    ok(!(await readdir(blobs)).some((name) => name.endsWith(".incomplete")));
    const folder = await snapshot("org/tiny", given);
    ok((await readFile(join(folder, shard))).equals(files.get(shard)!));
  }));

test("two calls at once download each file once", () =>
  withHub(async ({ hub, options }) => {
    const both = await Promise.all([snapshot("org/tiny", options), snapshot("org/tiny", options)]);
    is(both[0], both[1]);
    const asked = downloads(hub).filter((line) => line.includes("/cdn/"));
    is(new Set(asked).size, asked.length);
  }));

test("a disk that refuses is told as one, at once: a file where the cache is to be, a full disk", () =>
  withHub(async ({ hub, cacheDir, blobs, files, options }) => {
    const file = join(cacheDir, "file");
    await writeFile(file, "");
    const inFile = snapshot("org/tiny", { ...options, cacheDir: file });
    await refused(inFile, "DiskError", `${file}/models--org--tiny/`, "ENOTDIR");
    const shard = files.get(SHARDS[0]!)!;
    await mkdir(blobs, { recursive: true });
    const part = join(blobs, `${blobOf(shard)}.lowrank.${process.pid}.incomplete`);
    await symlink("/dev/full", part);
    const full = snapshot("org/tiny", options);
    await refused(full, "DiskError", part, "ENOSPC", `It needs ${shard.length.toLocaleString("en-US")} bytes`); // biome-ignore format: one line
    is(downloads(hub).filter((line) => line.includes(`/cdn/${blobOf(shard)}`)).length, 1);
  }));

test("what the hub refuses, and a hub out of reach, are told with what to do", () =>
  withHub(async ({ hub, cacheDir, options }) => {
    const missing = snapshot("org/none", options);
    await refused(missing, "LowrankError", "org/none at main", "status 404", "Is its name right");
    const revision = snapshot("org/tiny", { ...options, revision: "v9" });
    await refused(revision, "LowrankError", "org/tiny at v9", "status 404: Invalid rev id: v9");
    hub.token = "hf_secret";
    await refused(snapshot("org/tiny", options), "LowrankError", "status 401", "Set HF_TOKEN");
    await snapshot("org/tiny", { ...options, token: "hf_secret" });
    await refused(
      snapshot("org/tiny", { ...options, token: "hf_secret", files: () => false }),
      "LowrankError",
      "files that are wanted",
      "got none",
    );
    const away = { cacheDir, endpoint: "http://127.0.0.1:9" };
    const parts = ["within reach", "HF_HUB_OFFLINE=1"];
    await refused(snapshot("org/tiny", away), "LowrankError", ...parts);
    for (const repo of ["", "a/b/c", "../x", "a--b/c", "/x", "org/"]) {
      await refused(snapshot(repo, options), "ValueError", "repo must be the name of a repository");
    }
    const strange = { ...options, revision: "../main" };
    await refused(snapshot("org/tiny", strange), "ValueError", "revision must be a branch");
  }));

runTests();
