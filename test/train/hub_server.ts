// A server on this machine that speaks the hub's paths: model info, file tree in pages, files through a
// redirect for large ones, ranges. It can be told to misbehave.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HubServer {
  url: string;
  /** Every request: `GET /path`, and its range where it has one. */
  log: string[];
  /** Bytes after which the next answers with a file's content break off, one number per answer. */
  cuts: number[];
  /** Answers ranges with the whole file. */
  ignoresRanges: boolean;
  /** Flips a bit of what it sends. */
  damages: boolean;
  /** Answers 401 without this token. */
  token: string | null;
  close(): Promise<void>;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const PAGE = 3;

const sha256 = (content: Uint8Array) => createHash("sha256").update(content).digest("hex");
const gitBlob = (content: Uint8Array) =>
  createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");

/**
 * Serves one repository under `org/tiny`, whose branch `main` and tag `v1` are at COMMIT.
 * @param files  contents by path; those of safetensors files are large ones
 */
export async function startHub(files: ReadonlyMap<string, Uint8Array>): Promise<HubServer> {
  const isLarge = (path: string) => path.endsWith(".safetensors");
  const tree = [...files].map(([path, content]) => ({
    type: "file",
    path,
    size: content.length,
    oid: gitBlob(content),
    ...(isLarge(path)
      ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } }
      : {}),
  }));
  const byOid = new Map([...files.values()].map((content) => [sha256(content), content]));

  const server = createServer((request, response) => {
    const url = new URL(request.url!, state.url);
    const range = request.headers.range?.replace("bytes=", " ") ?? "";
    state.log.push(`${request.method} ${url.pathname}${range}`);
    answer(request, response, url);
  });

  function answer(request: IncomingMessage, response: ServerResponse, url: URL): unknown {
    const fail = (status: number, code: string, message: string) => {
      response.writeHead(status, { "Content-Type": "application/json", "X-Error-Code": code });
      response.end(JSON.stringify({ error: message }));
    };
    const json = (value: unknown, headers: Record<string, string> = {}) => {
      response.writeHead(200, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify(value));
    };
    if (state.token && request.headers.authorization !== `Bearer ${state.token}`) {
      return fail(401, "GatedRepo", "Access to model org/tiny is restricted.");
    }
    const [, kind, rest] =
      url.pathname.match(/^\/api\/models\/org\/tiny\/(revision|tree)\/(.+)$/) ?? [];
    if (kind === "revision") {
      const known = ["main", "v1", "refs/pr/1", COMMIT].includes(decodeURIComponent(rest!));
      if (!known) return fail(404, "RevisionNotFound", `Invalid rev id: ${rest}`);
      return json({ _id: "1", id: "org/tiny", sha: COMMIT, lastModified: "2025-01-01T00:00:00Z" });
    }
    if (kind === "tree") {
      const at = Number(url.searchParams.get("cursor") ?? 0);
      url.searchParams.set("cursor", `${at + PAGE}`);
      const link = at + PAGE < tree.length ? { Link: `<${url}>; rel="next"` } : undefined;
      return json(tree.slice(at, at + PAGE), link);
    }
    const [, path] = url.pathname.match(new RegExp(`^/org/tiny/resolve/${COMMIT}/(.+)$`)) ?? [];
    const content = path ? files.get(path) : undefined;
    if (content && isLarge(path!)) {
      const oid = sha256(content);
      const linked = { "X-Linked-Size": `${content.length}`, "X-Linked-ETag": `"${oid}"` };
      response.writeHead(302, { Location: `${state.url}/cdn/${oid}`, ...linked });
      response.end();
      return;
    }
    if (content) return send(request, response, content);
    const large = byOid.get(url.pathname.replace("/cdn/", ""));
    if (large) return send(request, response, large);
    return fail(404, "RepoNotFound", "Repository not found");
  }

  function send(request: IncomingMessage, response: ServerResponse, content: Uint8Array): void {
    const [, from, to] = request.headers.range?.match(/^bytes=(\d+)-(\d+)$/) ?? [];
    const isPart = from !== undefined && !state.ignoresRanges;
    const isProbe = from === "0" && to === "0";
    const start = isPart ? Number(from) : 0;
    const end = isPart ? Math.min(Number(to) + 1, content.length) : content.length;
    const body = Buffer.from(content.subarray(start, end));
    if (state.damages && body.length > 1) body[body.length - 1]! ^= 1;
    const headers: Record<string, string> = {
      ETag: `"${gitBlob(content)}"`,
      "Content-Type": "application/octet-stream",
      "Content-Length": `${body.length}`,
    };
    // A probe always learns the size, as from a CDN that knows what it cannot cut.
    if (isPart || isProbe) headers["Content-Range"] = `bytes ${start}-${end - 1}/${content.length}`;
    response.writeHead(isPart ? 206 : 200, headers);
    const cut = isProbe ? undefined : state.cuts.shift();
    if (cut === undefined) {
      response.end(body);
      return;
    }
    response.write(body.subarray(0, cut));
    setTimeout(() => request.socket.destroy(), 50);
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const state: HubServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    log: [],
    cuts: [],
    ignoresRanges: false,
    damages: false,
    token: null,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return state;
}
