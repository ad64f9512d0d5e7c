// Stands in for disk.node.ts in browsers, which have no file system: each function says so.
import { LowrankError } from "../gpu/errors.ts";

function refuse(path: unknown): never {
  throw new LowrankError({
    op: "files",
    arg: String(path),
    expected: "read and written under Node",
    got: "a browser, which has no file system",
  });
}

export {
  refuse as closeSync,
  refuse as copyFile,
  refuse as dirname,
  refuse as existsSync,
  refuse as freemem,
  refuse as hostname,
  refuse as makeFolder,
  refuse as modifiedAt,
  refuse as open,
  refuse as openSync,
  refuse as readdir,
  refuse as readFile,
  refuse as readFileSync,
  refuse as readSync,
  refuse as rename,
  refuse as rm,
  refuse as writeSync,
};
