// Finds an adapter under Node, through Dawn (npm `webgpu`): the one asked for, else a real GPU, else an
// installed software device, else the embedded SwiftShader.

import type { FoundAdapter } from "./adapter.ts";
import { ADAPTER_WORDS, type AdapterClass, answersTo, classify, describe } from "./adapter.ts";
import { lavapipeCommands } from "./advice.ts";
import { DeviceError } from "./errors.ts";
import { embeddedSwiftShader } from "./software.ts";

type Dawn = typeof import("webgpu");

/** An adapter that was opened, and the name under which Dawn lists it. */
export interface Candidate {
  adapter: GPUAdapter;
  adapterClass: AdapterClass;
  name: string;
}

/** The places where adapters come from; each may throw, which counts as having none. */
export interface Sources {
  installed(asked: string | undefined): Promise<Candidate[]>;
  embedded(): Promise<Candidate[]>;
}

const DAWN_OPTIONS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  "disable-dawn-features=timestamp_quantization",
];

/**
 * Finds an adapter.
 * @param asked `gpu`, `lavapipe`, `swiftshader`, or a part of an adapter's name.
 * @throws DeviceError listing what was tried, and why it failed.
 */
export async function findAdapter(asked?: string): Promise<FoundAdapter> {
  const dawn = await loadDawn();
  return choose(asked, {
    installed: (word) => installedAdapters(dawn, word),
    embedded: () => embeddedAdapters(dawn),
  });
}

/** Takes the best candidate that answers to `asked`. */
export async function choose(asked: string | undefined, from: Sources): Promise<FoundAdapter> {
  const tried: string[] = [];
  const names: string[] = [];
  for (const source of order(asked)) {
    const found = await look(source, () => from[source](asked), tried);
    const fit = asked ? found.filter((c) => answersTo(asked, c.adapterClass, nameOf(c))) : found;
    const best = fit.sort((a, b) => rank(a) - rank(b))[0];
    if (best) return taken(best, source, tried);
    names.push(...found.map((c) => c.name));
  }
  if (asked && names.length > 0) throw unknownAdapter(asked, names, tried);
  throw noDevice(tried, asked);
}

/** SwiftShader is asked for by people who want what everyone has, so the embedded one goes first. */
function order(asked: string | undefined): (keyof Sources)[] {
  return asked?.toLowerCase() === "swiftshader"
    ? ["embedded", "installed"]
    : asked && ADAPTER_WORDS.includes(asked.toLowerCase())
      ? ["installed"]
      : ["installed", "embedded"];
}

const rank = (c: Candidate): number =>
  ["gpu", "lavapipe", "software", "swiftshader"].indexOf(c.adapterClass);

const nameOf = (c: Candidate): string => `${c.name} (${describe(c.adapter.info)})`;

async function look(
  source: keyof Sources,
  open: () => Promise<Candidate[]>,
  tried: string[],
): Promise<Candidate[]> {
  const [place, why] =
    source === "installed"
      ? ["installed devices", " (Mesa must be 25 or newer)"]
      : ["embedded SwiftShader", ""];
  try {
    const found = await open();
    const names = found.map((c) => c.name).join("; ");
    tried.push(`${place}: ${names || `none that Dawn accepts${why}`}`);
    return found;
  } catch (error) {
    tried.push(`${place}: ${(error as Error).message}`);
    return [];
  }
}

function taken(c: Candidate, source: keyof Sources, tried: string[]): FoundAdapter {
  const { adapter, adapterClass } = c;
  const origin = source === "embedded" ? "embedded" : adapterClass === "gpu" ? "gpu" : "installed";
  const { description } = adapter.info;
  const text = description && description !== c.name ? `${c.name}, ${description}` : c.name;
  return { adapter, adapterClass, origin, description: text, tried };
}

function unknownAdapter(asked: string, names: string[], tried: string[]): DeviceError {
  const isWord = ADAPTER_WORDS.includes(asked.toLowerCase());
  const there = `${ADAPTER_WORDS.join(", ")} or a part of a name that is there (${names.join("; ")})`;
  return new DeviceError({
    op: "init",
    arg: "adapter",
    expected: isWord ? `one that is there (${names.join("; ")})` : there,
    got: JSON.stringify(asked),
    hint: `Tried ${tried.join("; ")}.${isWord ? mending(asked) : ""}`,
  });
}

function noDevice(tried: string[], asked: string | undefined): DeviceError {
  const what = asked ? `no adapter ${JSON.stringify(asked)}` : "no GPU device";
  return new DeviceError(
    `init: ${what} was found.\n  Tried ${tried.join("\n  Tried ")}${mending(asked)}`,
  );
}

/** What to run to get the device that was asked for, or a better one. */
function mending(asked?: string): string {
  if (asked === "swiftshader") return "";
  if (asked === "gpu" || process.platform !== "linux") {
    return "\n  For a GPU: install or update its driver, with Vulkan, Metal or Direct3D 12.";
  }
  return `\n  For lavapipe, as root:\n    ${lavapipeCommands().join("\n    ")}`;
}

async function loadDawn(): Promise<Dawn> {
  try {
    const dawn = await import("webgpu");
    // GPUBufferUsage and the classes. Never the object that create() returns: it would keep the process alive.
    Object.assign(globalThis, dawn.globals);
    return dawn;
  } catch (error) {
    const place = `${process.platform} ${process.arch}`;
    throw new DeviceError(
      `init: Dawn (npm webgpu) did not load on ${place}: ${(error as Error).message}`,
    );
  }
}

async function installedAdapters(dawn: Dawn, asked: string | undefined): Promise<Candidate[]> {
  // Asked before Dawn, which would print a warning of its own.
  if (process.platform === "linux" && !hasLoader()) {
    throw new DeviceError("this machine has no Vulkan loader (libvulkan.so.1)");
  }
  // Dawn's first choice is a discrete GPU, else an integrated one, else a processor.
  const first = await open(dawn);
  if (!first) return [];
  if (first.adapterClass === "gpu" && (!asked || asked.toLowerCase() === "gpu")) return [first];
  const names = await listNames(dawn);
  if (names.length < 2) return [{ ...first, name: names[0] ?? first.name }];
  const opened = await Promise.all(names.map((name) => open(dawn, name)));
  return opened.filter((c) => c !== null);
}

// Dawn's instances must outlive their devices: one that is collected crashes the process.
const held: GPU[] = [];

async function open(dawn: Dawn, name?: string): Promise<Candidate | null> {
  const gpu = dawn.create(name ? [...DAWN_OPTIONS, `adapter=${name}`] : DAWN_OPTIONS);
  held.push(gpu);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return null;
  const { info } = adapter;
  return { adapter, adapterClass: classify(info), name: name ?? (info.device || describe(info)) };
}

/** Dawn names its adapters only when asked for one that does not exist. */
async function listNames(dawn: Dawn): Promise<string[]> {
  try {
    await dawn.create([...DAWN_OPTIONS, "adapter=\u0000none"]).requestAdapter();
  } catch (error) {
    const lines = String((error as Error).message ?? error).matchAll(
      /backend: '(\w+)', name: '(.*)'/g,
    );
    return [...lines].filter(([, backend]) => backend !== "null").map(([, , name]) => name!);
  }
  return [];
}

async function embeddedAdapters(dawn: Dawn): Promise<Candidate[]> {
  const { icd, loader } = embeddedSwiftShader();
  if (!hasLoader() && !loads(loader)) {
    throw new DeviceError(`its Vulkan loader ${loader} could not be loaded`);
  }
  // The loader reads these when Dawn makes its instance; afterwards they are as they were, so that
  // child processes and a later init() see the system's own devices again.
  const before = new Map(ICD_VARIABLES.map((name) => [name, process.env[name]]));
  for (const name of ICD_VARIABLES) process.env[name] = icd;
  try {
    const found = await open(dawn);
    return found ? [{ ...found, name: "SwiftShader" }] : [];
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

const ICD_VARIABLES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
const RTLD_NOW = 2;
const RTLD_GLOBAL = 0x100;
const RTLD_NODELETE = 0x1000;

let loaderFound: boolean | undefined;

/**
 * True where the machine has a Vulkan loader of its own. Asked once: after the embedded one is loaded it
 * would answer to the same name, and a second init() would find another device than the first.
 */
function hasLoader(): boolean {
  loaderFound ??= loads("libvulkan.so.1");
  return loaderFound;
}

/**
 * Loads a shared library for good, so that Dawn finds it by its name. It is no Node addon, and Node says
 * so ("did not self-register"), but by then it is loaded.
 */
function loads(library: string): boolean {
  try {
    process.dlopen({ exports: {} }, library, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
    return true;
  } catch (error) {
    return /self-register/.test((error as Error).message);
  }
}
