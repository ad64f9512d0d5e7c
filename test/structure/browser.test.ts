// The browser build: it needs nothing of Node, and computes what Node's build computes.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { buildPackage } from "../built.ts";
import { runNode } from "../child.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

const { app, installed, manifest } = buildPackage();

/** All modules that a page loads, and the names that are no files: found by walking the imports. */
function reachable(starts: readonly string[], replaced: Readonly<Record<string, string>>) {
  const [modules, names] = [new Set<string>(), new Set<string>()];
  const todo = starts.map((path) => join(installed, path));
  for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
    const local = `.${path.slice(installed.length)}`;
    const module = resolve(installed, replaced[local] ?? local);
    if (modules.has(module)) continue;
    modules.add(module);
    const code = readFileSync(module, "utf8").replace(/^\s*(\/\/|\/?\*).*$/gm, "");
    for (const [, name] of code.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g)) {
      if (name!.startsWith(".")) todo.push(resolve(dirname(module), name!));
      else names.add(name!);
    }
  }
  return { modules, names: [...names].sort() };
}

const entries = [
  "dist/index.js",
  "dist/train/index.js",
  "dist/nn/index.js",
  "dist/lora/index.js",
  "dist/kernels/index.js",
];

test("the browser build imports its own files and what runs anywhere, nothing of Node or Dawn", () => {
  const { modules, names } = reachable(entries, manifest.browser);
  ok(modules.size > 80, `only ${modules.size} modules were reached`);
  for (const replacement of Object.values(manifest.browser)) {
    ok(modules.has(join(installed, replacement)), `${replacement} is not in use`);
  }
  equal(
    names,
    Object.keys(manifest.dependencies).filter((name) => name !== "webgpu"),
  );
});

test("lowrank/text asks a page for its optional packages and nothing more", () => {
  const { names } = reachable(["dist/train/text/index.js"], manifest.browser);
  equal(names, ["@huggingface/jinja", "@huggingface/tokenizers", "@petamoriken/float16"]);
  for (const name of names.slice(0, 2)) ok(name in manifest.optionalDependencies, name);
});

test("lowrank/data asks a page for the package that renders chats and nothing more", () => {
  const { names } = reachable(["dist/train/data/index.js"], manifest.browser);
  equal(names, ["@huggingface/jinja", "@petamoriken/float16"]);
});

test("without the browser field Node's modules would be reached: the walk sees them", () => {
  const { names } = reachable(entries, {});
  for (const name of ["node:fs", "node:fs/promises", "node:zlib", "webgpu"]) {
    ok(names.includes(name), name);
  }
  const packages = names.filter((name) => !name.startsWith("node:"));
  equal(packages, Object.keys(manifest.dependencies), "what is imported is what is installed");
});

test("each stand-in for the browser exports what the module that it replaces exports", async () => {
  for (const pair of Object.entries(manifest.browser)) {
    const [node, browser] = await Promise.all(pair.map((path) => import(join(installed, path))));
    for (const name of Object.keys(browser)) ok(name in node, `${pair[1]}: ${name}`);
    if (pair[0].includes("disk")) equal(Object.keys(browser), Object.keys(node));
  }
});

/** Ops forward and backward; prints their bits. */
const WORK = `const { init, manualSeed, matmul, parameter, randn, sum, gelu, backward } = lowrank;
const gpu = await init();
manualSeed(3);
const [x, w] = [parameter(randn([17, 33])), parameter(randn([33, 9]))];
const y = gelu(matmul(x, w));
backward(sum(y));
const bits = [];
for (const t of [y, x.grad, w.grad]) bits.push([...new Uint32Array((await t.data()).buffer)].join());
const { Linear } = await import("lowrank/nn");
notes.push((await new Linear(4, 2).call(randn([3, 4])).data()).length);
console.log(JSON.stringify({ bits, origin: gpu.origin, class: gpu.adapterClass, notes }));
gpu.dispose();`;

/** A page: the browser's modules, navigator.gpu, and no globals of Node. */
const PAGE = `import { create, globals } from "webgpu";
const held = [create([])]; // Dawn's object must outlive its devices, but not on globalThis
Object.assign(globalThis, globals);
const navigator = {};
Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
delete globalThis.process;
delete globalThis.Buffer;
const lowrank = await import("lowrank");
const notes = [];
const note = async (body) => notes.push(await body().then(() => "nothing", (e) => e.name + " " + e.message));
await note(() => lowrank.init());
Object.defineProperty(navigator, "gpu", { get: () => held[0] });
await note(() => lowrank.init({ adapter: "voodoo" }));
await note(() => lowrank.loadSafetensors("model.safetensors"));
`;

/** Resolves as a bundler does that heeds the field \`browser\`, and refuses Node's modules. */
function asBundler(): string {
  const url = (path: string) => `file://${join(installed, path)}`;
  const pairs = Object.entries(manifest.browser).map((pair) => pair.map(url));
  const hooks = `const browser = new Map(${JSON.stringify(pairs)});
export async function resolve(name, context, next) {
  const found = await next(name, context);
  const isOurs = context.parentURL?.startsWith("${url("dist/")}");
  if (isOurs && (name === "webgpu" || found.url.startsWith("node:"))) throw new Error("a page has no " + name);
  return browser.has(found.url) ? { ...found, url: browser.get(found.url) } : found;
}`;
  const data = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
  return data(`import { register } from "node:module"; register(${JSON.stringify(data(hooks))});`);
}

/** The environment in which Dawn by itself finds the device of these tests. */
async function sameDevice(): Promise<Record<string, string>> {
  if (theGpu().origin !== "embedded") return {};
  const { embeddedSwiftShader } = await import("../../src/gpu/software.ts");
  const { folder, icd } = embeddedSwiftShader();
  return { VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd, LD_LIBRARY_PATH: folder };
}

gpuTest(
  "through the browser's entry the library computes the same bits as through Node's",
  async () => {
    writeFileSync(join(app, "page.mjs"), PAGE + WORK);
    writeFileSync(
      join(app, "node.mjs"),
      `import * as lowrank from "lowrank"; const notes = [];\n${WORK}`,
    );
    const [page, node] = await Promise.all([
      runNode(["--import", asBundler(), "page.mjs"], await sameDevice(), app),
      runNode(["node.mjs"], {}, app),
    ]);
    is(page.code, 0, page.stderr);
    is(node.code, 0, node.stderr);
    const [inPage, inNode] = [JSON.parse(page.stdout), JSON.parse(node.stdout)];
    is(inPage.origin, "browser");
    is(inPage.class, inNode.class);
    equal(inPage.bits, inNode.bits);
    const [missing, unknown, file, linear] = inPage.notes;
    match(missing, "DeviceError init: navigator.gpu must be there");
    match(unknown, /^DeviceError init: adapter must be a part of .*, got "voodoo"/);
    match(file, "FormatError safetensors: model.safetensors cannot be read");
    match(file, "got a browser, which has no file system");
    is(linear, 6);
  },
);

runTests();
