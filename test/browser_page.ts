// A page in headless Chromium, from the npm package that carries it: opened, asked and photographed.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

export const CHROMIUM_FLAGS = [
  "--headless=shell",
  "--no-sandbox",
  "--no-zygote",
  "--single-process",
  "--in-process-gpu",
  "--disable-dev-shm-usage",
];

/** Path of a Chromium that starts here, or why there is none. */
export async function findChromium(): Promise<{ path: string } | { why: string }> {
  if (process.platform !== "linux" || process.arch !== "x64") return { why: "no Linux x64" };
  try {
    const { default: chromium } = await import("@sparticuz/chromium");
    const path = await chromium.executablePath();
    const { status, stderr } = spawnSync(path, ["--version"], { encoding: "utf8" });
    return status === 0 ? { path } : { why: stderr.trim() };
  } catch (error) {
    return { why: (error as Error).message };
  }
}

export interface View {
  width: number;
  height?: number;
  dark?: boolean;
  /** Of paper instead of a screen. */
  print?: boolean;
}

type Message = {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
};

/** Chromium with one tab, driven through a pipe. */
export class Browser implements AsyncDisposable {
  /** URLs that pages asked for. */
  readonly requests: string[] = [];
  /** What pages complained of. */
  readonly complaints: string[] = [];
  private readonly waiting = new Map<number, (message: Message) => void>();
  private readonly events = new Map<string, () => void>();
  private session: string | undefined;
  private sent = 0;

  private constructor(
    private readonly child: ChildProcess,
    private readonly profile: string,
  ) {
    let rest = "";
    (child.stdio[4] as Readable).setEncoding("utf8").on("data", (text: string) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop()!;
      for (const message of messages) this.receive(JSON.parse(message) as Message);
    });
  }

  static async start(path: string): Promise<Browser> {
    const profile = mkdtempSync(join(tmpdir(), "lowrank-chromium-"));
    const flags = [...CHROMIUM_FLAGS, "--remote-debugging-pipe", `--user-data-dir=${profile}`];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"] as const;
    const browser = new Browser(
      spawn(path, [...flags, "about:blank"], { stdio: [...stdio] }),
      profile,
    );
    const { targetInfos } = await browser.send("Target.getTargets");
    const { targetId } = (targetInfos as { type: string; targetId: string }[]).find(
      ({ type }) => type === "page",
    )!;
    const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
    browser.session = sessionId as string;
    for (const domain of ["Page", "Runtime", "Network", "Log"])
      await browser.send(`${domain}.enable`);
    return browser;
  }

  /** Shows a page and waits until it is loaded. */
  async open(
    url: string,
    { width, height = 900, dark = false, print = false }: View,
  ): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send("Emulation.setDeviceMetricsOverride", metrics);
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await this.send("Emulation.setEmulatedMedia", { media: print ? "print" : "screen", features });
    const loaded = new Promise<void>((done) => this.events.set("Page.loadEventFired", done));
    await this.send("Page.navigate", { url });
    await loaded;
  }

  /** The value of an expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result } = await this.send("Runtime.evaluate", { expression, returnByValue: true });
    return (result as { value: T }).value;
  }

  /** The whole page as PNG, or a part of it. */
  async screenshot(clip?: {
    x: number;
    y: number;
    width: number;
    height: number;
  }): Promise<Buffer> {
    const part = clip ? { clip: { ...clip, scale: 1 } } : {};
    const options = { format: "png", captureBeyondViewport: true, ...part };
    const { data } = await this.send("Page.captureScreenshot", options);
    return Buffer.from(data as string, "base64");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((done) => this.child.on("exit", done));
    this.child.kill("SIGKILL");
    await gone;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  private send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.sent;
    const session = this.session ? { sessionId: this.session } : {};
    (this.child.stdio[3] as Writable).write(
      `${JSON.stringify({ id, method, params, ...session })}\0`,
    );
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`${method}: no answer`)), 60_000);
      this.waiting.set(id, ({ result, error }) => {
        clearTimeout(timer);
        if (error) fail(new Error(`${method}: ${error.message}`));
        else done(result!);
      });
    });
  }

  private receive({ id, method, params, ...rest }: Message): void {
    if (id !== undefined) {
      this.waiting.get(id)?.({ ...rest });
      this.waiting.delete(id);
    }
    const facts = params as never as {
      request: { url: string };
      entry: { level: string; text: string };
      exceptionDetails: { text: string };
      type: string;
    };
    if (method === "Network.requestWillBeSent") this.requests.push(facts.request.url);
    if (method === "Log.entryAdded") this.complaints.push(facts.entry.text);
    if (method === "Runtime.exceptionThrown") this.complaints.push(facts.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled") this.complaints.push(facts.type);
    this.events.get(method ?? "")?.();
  }
}
