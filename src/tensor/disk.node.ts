// The file system, under Node. With src/gpu/entry.node.ts the only modules that a browser build replaces.
export { closeSync, existsSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
export { copyFile, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
export { freemem, hostname } from "node:os";
export { dirname } from "node:path";
