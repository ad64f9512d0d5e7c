// A repository of the hub as a folder of the cache, through `@huggingface/hub`.
import { existsSync } from "node:fs";
import { LowrankError } from "../../gpu/errors.ts";
import { optional } from "../optional.ts";
import { HubCache } from "./cache.ts";
import { download, type RemoteFile } from "./download.ts";
import { type HubOptions, type HubSettings, settingsOf } from "./settings.ts";

type Library = typeof import("@huggingface/hub");

/** What models, tokenizers and adapters are made of; other formats of the same weights are left out. */
const WANTED =
  /^(?:(?:adapter_)?model(?:-\d{5}-of-\d{5})?\.safetensors|[\w.-]+\.json|chat_template\.jinja)$/;

/**
 * The folder of a repository's files, in the cache that Hugging Face's tools share. What is there
 * already is not downloaded again; a download that was cut off goes on where it ended.
 * @param repo  `org/name`
 * @throws ValueError for names that cannot be, LowrankError where the hub, the network or an offline
 *   cache does not have it, FormatError for a file that arrives damaged
 */
export async function snapshot(repo: string, options: HubOptions = {}): Promise<string> {
  const settings = settingsOf(repo, options);
  const library = await optional("hub", "@huggingface/hub", () => import("@huggingface/hub"));
  const cache = new HubCache(settings.cacheDir ?? library.getHFHubCachePath(), repo);
  if (settings.offline) return cached(cache, settings);
  const commit = await asking(settings, () => commitOf(library, settings));
  const wanted = options.files ?? ((path: string) => WANTED.test(path));
  const files = await asking(settings, () => filesOf(library, settings, commit, wanted));
  if (files.length === 0) {
    const expected = "a repository with files that are wanted, such as model.safetensors";
    throw failure(settings, expected, "none", "Weights must be stored as safetensors.");
  }
  await bring(library, cache, { ...settings, revision: commit }, files, options.onProgress);
  for (const { path, etag } of files) await cache.place(commit, path, etag);
  await cache.remember(settings.revision, commit);
  return cache.snapshot(commit);
}

async function cached(cache: HubCache, settings: HubSettings): Promise<string> {
  const commit = await cache.commitOf(settings.revision);
  if (commit !== null && existsSync(cache.snapshot(commit))) return cache.snapshot(commit);
  const hint = "Call it once without HF_HUB_OFFLINE and localFilesOnly.";
  throw failure(settings, "in the cache, for this is offline mode", "nothing", hint);
}

async function commitOf(library: Library, settings: HubSettings): Promise<string> {
  const { repo: name, endpoint: hubUrl, revision, token } = settings;
  const asked = { name, hubUrl, revision, ...(token ? { accessToken: token } : {}) };
  const { sha } = await library.modelInfo({ ...asked, additionalFields: ["sha"] });
  if (/^[0-9a-f]{40}$/.test(sha)) return sha;
  throw failure(settings, "at a commit", JSON.stringify(sha));
}

async function filesOf(
  library: Library,
  { repo, endpoint: hubUrl, token }: HubSettings,
  revision: string,
  wanted: (path: string) => boolean,
): Promise<RemoteFile[]> {
  const asked = { repo, hubUrl, revision, ...(token ? { accessToken: token } : {}) };
  const files: RemoteFile[] = [];
  for await (const entry of library.listFiles({ ...asked, recursive: true })) {
    if (entry.type !== "file" || !isInside(entry.path) || !wanted(entry.path)) continue;
    const etag = entry.lfs?.oid ?? entry.oid ?? "";
    if (!/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(etag)) throw new Error(`${entry.path} has no hash`);
    files.push({ path: entry.path, size: entry.lfs?.size ?? entry.size, etag });
  }
  return files;
}

/** Whether a path stays inside the folder that it is joined to, under Windows' rules too. */
function isInside(path: string): boolean {
  return !/^[/\\]|^[A-Za-z]:|\\/.test(path) && !path.split("/").includes("..");
}

/** Downloads what the cache lacks, small files first, so that what is wrong with them shows early. */
async function bring(
  library: Library,
  cache: HubCache,
  settings: HubSettings,
  files: readonly RemoteFile[],
  onProgress: HubOptions["onProgress"],
): Promise<void> {
  const { repo, endpoint: hubUrl, token, revision } = settings;
  const bytesTotal = files.reduce((sum, { size }) => sum + size, 0);
  const isHere = ({ etag }: RemoteFile) => existsSync(cache.blob(etag));
  let done = files.filter(isHere).reduce((sum, { size }) => sum + size, 0);
  const missing = files.filter((file) => !isHere(file)).sort((a, b) => a.size - b.size);
  for (const file of missing) {
    if (isHere(file)) continue; // of the same content as one before
    const fetcher = async ({ path, size }: RemoteFile, start: number) => {
      const asked = { repo, hubUrl, revision, path, ...(token ? { accessToken: token } : {}) };
      const blob = await library.downloadFile(asked);
      if (!blob) throw failure(settings, `a repository with ${path}`, "none");
      return blob.slice(start, size).stream() as unknown as AsyncIterable<Uint8Array>;
    };
    const onBytes = (bytes: number) =>
      onProgress?.({ file: file.path, bytesDone: done + bytes, bytesTotal });
    await asking(settings, () => download(cache, file, fetcher, onBytes));
    done += file.size;
  }
}

/** Runs a request; what the hub answers becomes an error that says what to do. */
async function asking<T>(settings: HubSettings, request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    if (error instanceof LowrankError) throw error;
    const { statusCode: status, message, cause } = error as Error & { statusCode?: number };
    const why = cause instanceof Error ? `${message} (${cause.message})` : message;
    if (status === undefined) {
      const hint = "With HF_HUB_OFFLINE=1 what is in the cache is used.";
      throw failure(settings, "within reach", why, hint);
    }
    const hint =
      status === 401 || status === 403
        ? "Set HF_TOKEN to a token that may read it, and accept its terms on its page."
        : status === 404
          ? "Is its name right, and the revision?"
          : "";
    throw failure(settings, "there for us", `status ${status}: ${why}`, hint);
  }
}

function failure(settings: HubSettings, expected: string, got: string, hint = ""): LowrankError {
  const { repo, revision, endpoint } = settings;
  const arg = `${repo} at ${revision} of ${endpoint}`;
  return new LowrankError({ op: "hub", arg, expected, got, ...(hint ? { hint } : {}) });
}
