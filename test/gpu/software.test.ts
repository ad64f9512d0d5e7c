// The embedded SwiftShader: unpacked once, whole, verified, also by processes that start together.
import { readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, match, not, ok } from "uvu/assert";
import { cacheFolder, embeddedSwiftShader, findArchive } from "../../src/gpu/software.ts";
import { LIBRARY, NAMES, onlyCopy, sha256, withCache } from "../cache.ts";
import { inFolder, runModule } from "../child.ts";
import { throwsLike } from "../gpu.ts";

const hasSwiftShader = (() => {
  try {
    return Boolean(findArchive());
  } catch {
    return false;
  }
})();
const swiftShaderTest = hasSwiftShader ? test : test.skip;

// All imported first, so that the processes come to the cache at the same moment.
const USE = `import { init, tensor, mul } from "./src/index.ts";
await new Promise((go) => setTimeout(go, Number(process.env.START) - Date.now()));
const gpu = await init({ adapter: "swiftshader" });
const y = mul(tensor([2]), tensor([3]));
console.log(gpu.origin, await y.item());`;

async function fourProcesses(cache: string): Promise<string> {
  const env = { LOWRANK_CACHE: cache, LOWRANK_ADAPTER: "", START: String(Date.now() + 1000) };
  const ended = await Promise.all([1, 2, 3, 4].map(() => runModule(USE, env)));
  for (const { code, stdout, stderr } of ended) {
    is(stdout.trim(), "embedded 6", stderr);
    is(code, 0, stderr);
  }
  return onlyCopy(cache);
}

swiftShaderTest("four processes at once unpack one good copy, and repair it when it is torn", () =>
  inFolder(async (cache) => {
    const copy = await fourProcesses(cache);
    const good = sha256(join(copy, LIBRARY));
    truncateSync(join(copy, LIBRARY), 1000);
    is(await fourProcesses(cache), copy);
    is(sha256(join(copy, LIBRARY)), good);
  }),
);

/** Damages that a cached copy may suffer. */
const DAMAGES: Readonly<Record<string, (copy: string) => void>> = {
  "a flipped bit": (copy) => {
    const bytes = readFileSync(join(copy, LIBRARY));
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(join(copy, LIBRARY), bytes);
  },
  "a truncated library": (copy) => truncateSync(join(copy, "libvulkan.so.1"), 4096),
  "an empty file": (copy) => truncateSync(join(copy, "vk_swiftshader_icd.json")),
  "a missing file": (copy) => unlinkSync(join(copy, LIBRARY)),
  "a missing manifest": (copy) => unlinkSync(join(copy, "manifest.json")),
  "a manifest that is no JSON": (copy) => writeFileSync(join(copy, "manifest.json"), "{"),
  "a manifest of null": (copy) => writeFileSync(join(copy, "manifest.json"), "null"),
};

swiftShaderTest("damage to the cached copy is noticed by its hash and mended", () =>
  inFolder((cache) => {
    withCache(cache, () => {
      const { folder, icd, loader } = embeddedSwiftShader();
      is(onlyCopy(cache), folder);
      ok(statSync(icd).isFile() && statSync(loader).isFile());
      const good = NAMES.map((name) => sha256(join(folder, name)));
      for (const [what, damage] of Object.entries(DAMAGES)) {
        damage(folder);
        is(embeddedSwiftShader().folder, folder, what);
        is(onlyCopy(cache), folder, what);
        equal(
          NAMES.map((name) => sha256(join(folder, name))),
          good,
          what,
        );
      }
      const { mtimeMs } = statSync(join(folder, LIBRARY));
      embeddedSwiftShader();
      is(statSync(join(folder, LIBRARY)).mtimeMs, mtimeMs, "an intact copy is left alone");
    });
  }),
);

test("a cache folder that cannot be written: the error names it and the way out", () =>
  inFolder((folder) => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    throwsLike(
      () => withCache(join(file, "cache"), cacheFolder),
      "DeviceError",
      join(file, "cache"),
      "Set LOWRANK_CACHE",
    );
    is(withCache(join(folder, "new"), cacheFolder), join(folder, "new"));
  }));

test("without LOWRANK_CACHE: XDG_CACHE_HOME, else the home folder, else a folder of one's own", () =>
  inFolder(async (folder) => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const code = `import { cacheFolder } from "./src/gpu/software.ts"; console.log(cacheFolder());`;
    const none = { LOWRANK_CACHE: undefined, XDG_CACHE_HOME: undefined, TMPDIR: folder };
    const [xdg, home, own] = await Promise.all([
      runModule(code, { ...none, XDG_CACHE_HOME: join(folder, "xdg") }),
      runModule(code, { ...none, HOME: folder }),
      runModule(code, { ...none, HOME: file }),
    ]);
    is(xdg.stdout.trim(), join(folder, "xdg", "lowrank"), xdg.stderr);
    is(home.stdout.trim(), join(folder, ".cache", "lowrank"), home.stderr);
    match(own.stdout, `${folder}/lowrank-`);
    not.match(own.stdout, "cache");
  }));

test.run();
