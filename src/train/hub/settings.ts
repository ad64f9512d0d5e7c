// Where the hub is and how to speak to it: options first, then the variables that Hugging Face's tools read.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ValueError } from "../../gpu/errors.ts";

export interface HubOptions {
  /** A branch, a tag or a commit. Default `main`. */
  revision?: string;
  /** Only what is in the cache already; no network. Default: whether `HF_HUB_OFFLINE` is set. */
  localFilesOnly?: boolean;
  /** Default: `HF_HUB_CACHE`, or `hub` under `HF_HOME`, or `~/.cache/huggingface/hub`. */
  cacheDir?: string;
  /** Default: `HF_ENDPOINT`, or https://huggingface.co. */
  endpoint?: string;
  /** Default: `HF_TOKEN`, or what `hf auth login` stored. */
  token?: string;
  /** Which files of the repository. Default: weights as safetensors, configurations, tokenizer. */
  files?: (path: string) => boolean;
  /** Called for every piece that arrives. */
  onProgress?: (progress: HubProgress) => void;
}

export interface HubProgress {
  /** The file that is on its way. */
  file: string;
  /** Bytes of all files that are here, those of earlier runs included. */
  bytesDone: number;
  bytesTotal: number;
}

/** Options with the environment's values filled in. */
export interface HubSettings {
  repo: string;
  revision: string;
  offline: boolean;
  cacheDir: string | undefined;
  endpoint: string;
  token: string | undefined;
}

/** Fills in what the environment says. Throws ValueError for names that no repository can have. */
export function settingsOf(repo: string, options: HubOptions): HubSettings {
  const { env } = process;
  const part = "[A-Za-z0-9](?:[\\w.-]*[A-Za-z0-9_])?";
  if (!new RegExp(`^(?:${part}/)?${part}$`).test(repo) || /--|\.\./.test(repo)) {
    const expected = "the name of a repository, such as org/name";
    throw new ValueError({ op: "hub", arg: "repo", expected, got: JSON.stringify(repo) });
  }
  const revision = options.revision ?? "main";
  if (!/^[\w][\w./-]*$/.test(revision) || revision.includes("..")) {
    const expected = "a branch, a tag or a commit";
    throw new ValueError({ op: "hub", arg: "revision", expected, got: JSON.stringify(revision) });
  }
  return {
    repo,
    revision,
    offline: options.localFilesOnly ?? isSet(env.HF_HUB_OFFLINE),
    cacheDir: options.cacheDir,
    endpoint: (options.endpoint ?? env.HF_ENDPOINT ?? "https://huggingface.co").replace(/\/+$/, ""),
    token: options.token ?? tokenOf(env),
  };
}

function isSet(value: string | undefined): boolean {
  return ["1", "true", "yes", "on"].includes(value?.toLowerCase() ?? "");
}

function tokenOf(env: NodeJS.ProcessEnv): string | undefined {
  if (env.HF_TOKEN) return env.HF_TOKEN;
  const home = env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "huggingface");
  const path = env.HF_TOKEN_PATH ?? join(home, "token");
  return existsSync(path) ? readFileSync(path, "utf8").trim() || undefined : undefined;
}
