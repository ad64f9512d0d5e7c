// The library in a real browser: Chromium, from the npm package that carries SwiftShader, opens a page that
// trains an adapter, and the result is the one that Node computes on the same device.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, resolve, sep } from "node:path";
import { test } from "uvu";
import { equal, is, match, ok } from "uvu/assert";
import { CHROMIUM_FLAGS, findChromium } from "../browser_page.ts";
import { type Built, buildPackage } from "../built.ts";
import { runNode } from "../child.ts";
import { theGpu } from "../gpu.ts";

/** LoRA from start to end; gives the losses, the adapter's weights, and what computed them. */
const WORK = `
import { backward, init, manualSeed, noGrad, scope, tensor } from "lowrank";
import { AdamW, LlamaForCausalLM } from "lowrank/nn";
import { addLora } from "lowrank/lora";
export async function work() {
  const gpu = await init();
  manualSeed(5);
  const model = new LlamaForCausalLM({
    vocab_size: 61, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2,
    num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 32,
  });
  const lora = addLora(model, { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" });
  const optimizer = new AdamW(lora.parameters(), { lr: 2e-2 });
  const ids = tensor(Int32Array.from({ length: 48 }, (_, i) => (i * i) % 61), [2, 24]);
  const targets = tensor(Int32Array.from({ length: 48 }, (_, i) => ((i + 1) * (i + 1)) % 61), [2, 24]);
  const losses = [];
  for (let i = 0; i < 8; i++) {
    const step = scope();
    const loss = model.loss(ids, targets);
    backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    losses.push(await loss.item());
    step[Symbol.dispose]();
  }
  model.eval();
  const onTheFly = [...(await noGrad(() => model.call(ids)).data())];
  lora.merge();
  const merged = [...(await noGrad(() => model.call(ids)).data())];
  const weights = [];
  for (const p of lora.parameters()) weights.push(...(await p.data()));
  return { losses, onTheFly, merged, weights, origin: gpu.origin, adapterClass: gpu.adapterClass };
}`;

interface Worked {
  losses: number[];
  onTheFly: number[];
  merged: number[];
  weights: number[];
  origin: string;
  adapterClass: string;
}

const PAGE = `<!doctype html><title>lowrank</title>
<script type="importmap">{ "imports": {
  "lowrank": "/lowrank/dist/index.js", "lowrank/nn": "/lowrank/dist/nn/index.js",
  "lowrank/lora": "/lowrank/dist/lora/index.js",
  "@petamoriken/float16": "/@petamoriken/float16/browser/float16.mjs" } }</script>
<script type="module">
const say = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
addEventListener("error", (event) => say({ error: event.message }));
try { say(await (await import("/work.js")).work()); } catch (error) { say({ error: error.stack }); }
</script>`;

const TYPES: Readonly<Record<string, string>> = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
};

/** Serves the page and the installed packages; what `browser` in package.json replaces is replaced. */
async function opened(chromium: string, { app, manifest }: Built): Promise<Worked> {
  const packages = join(app, "node_modules");
  let settle: (text: string) => void = () => {};
  let giveUp: (error: Error) => void = () => {};
  const result = new Promise<string>((done, fail) => {
    [settle, giveUp] = [done, fail];
  });
  const server = createServer((request, response) => {
    const path = request.url ?? "/";
    if (path === "/result") {
      let body = "";
      request.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      request.on("end", () => {
        response.end();
        settle(body);
      });
      return;
    }
    const [type, content] = answer(path);
    response.writeHead(content === null ? 404 : 200, { "content-type": type });
    response.end(content);
  });
  function answer(path: string): [type: string, content: string | Buffer | null] {
    if (path === "/") return ["text/html", PAGE];
    if (path === "/work.js") return ["text/javascript", WORK];
    const name = path.replace("/lowrank/", "./"); // as package.json writes it
    const replaced = manifest.browser[name]?.replace("./", "/lowrank/") ?? path;
    const file = resolve(packages, `.${replaced}`);
    if (!file.startsWith(packages + sep)) return ["text/plain", null];
    try {
      return [TYPES[extname(file)] ?? "text/plain", readFileSync(file)];
    } catch {
      return ["text/plain", null];
    }
  }
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const profile = mkdtempSync(join(tmpdir(), "lowrank-chromium-"));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browser = spawn(chromium, [...FLAGS, `--user-data-dir=${profile}`, url], { stdio: "pipe" });
  let log = "";
  browser.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  browser.on("exit", (code, signal) =>
    giveUp(new Error(`Chromium ended, ${code ?? signal}\n${log}`)),
  );
  const timer = setTimeout(() => giveUp(new Error(`no result after two minutes\n${log}`)), 120_000);
  try {
    return JSON.parse(await result);
  } finally {
    clearTimeout(timer);
    browser.removeAllListeners("exit");
    const gone = new Promise((done) => browser.on("exit", done));
    browser.kill("SIGKILL");
    await gone;
    server.closeAllConnections();
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

const FLAGS = [
  ...CHROMIUM_FLAGS,
  "--remote-debugging-port=0",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
];

const found =
  theGpu()?.adapterClass === "swiftshader"
    ? await findChromium()
    : { why: "it is tried where SwiftShader is tested" };
const name = "in Chromium a page trains an adapter to the result that Node computes";
if ("why" in found) {
  console.error(`skipped: ${found.why}`);
  test.skip(name, () => {});
} else {
  test(name, async () => {
    const built = buildPackage();
    const page = await opened(found.path, built);
    ok(!("error" in page), (page as { error?: string }).error);
    is(page.origin, "browser");
    is(page.adapterClass, "swiftshader");
    const { app } = built;
    writeFileSync(join(app, "work.mjs"), WORK);
    const script = `import { work } from "./work.mjs"; console.log(JSON.stringify(await work()));`;
    writeFileSync(join(app, "main.mjs"), script);
    const ended = await runNode(["main.mjs"], { LOWRANK_ADAPTER: "swiftshader" }, app);
    is(ended.code, 0, ended.stderr);
    const node = JSON.parse(ended.stdout) as Worked;
    match(node.origin, /embedded|installed/);
    ok(node.losses[7]! < node.losses[0]! - 0.1, `${node.losses}`);
    for (const key of ["losses", "weights", "onTheFly", "merged"] as const) {
      equal(page[key], node[key], key);
    }
  });
}

test.run();
