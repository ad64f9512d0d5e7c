// The package as a user gets it: built and packed into a temporary folder, and installed beside its
// dependencies, without a network.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { root } from "./child.ts";

export interface Built {
  /** Paths in the package, such as `dist/index.js`. */
  files: string[];
  /** An otherwise empty project in which the package is installed. */
  app: string;
  /** Where the package lies in it. */
  installed: string;
  /** The parts of package.json that name files. */
  manifest: Manifest;
}

export interface Manifest {
  version: string;
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
  browser: Record<string, string>;
  sideEffects: string[];
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
}

// What lies in the repository and must not be in the package.
const DECOYS = ["test/x.test.ts", "examples/x.ts", "bench/x.ts", "src/x.ts", "out/x", ".ci/run"];

/** Builds, packs and installs. The folder goes when the process exits. */
export function buildPackage(): Built {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "lowrank-package-")));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const source = join(folder, "source");
  for (const file of DECOYS) {
    mkdirSync(dirname(join(source, file)), { recursive: true });
    writeFileSync(join(source, file), "");
  }
  for (const file of ["package.json", "README.md", "LICENSE"]) {
    copyFileSync(join(root, file), join(source, file));
  }
  const tsc = ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"];
  execFileSync(process.execPath, [...tsc, "--outDir", join(source, "dist")], { cwd: root });
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const listing = execFileSync("npm", pack, { cwd: source, stdio: ["ignore", "pipe", "ignore"] });
  const [packed] = JSON.parse(listing.toString()) as [
    { filename: string; files: { path: string }[] },
  ];
  const app = join(folder, "app");
  const installed = join(app, "node_modules", "lowrank");
  mkdirSync(installed, { recursive: true });
  const archive = join(folder, packed.filename);
  execFileSync("tar", ["-xzf", archive, "-C", installed, "--strip-components", "1"]);
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Manifest;
  const scopes = Object.keys(manifest.dependencies).map((name) => name.split("/")[0]!);
  for (const name of [...scopes, "@sparticuz", "tsx"]) {
    symlinkSync(join(root, "node_modules", name), join(app, "node_modules", name));
  }
  return { files: packed.files.map((file) => file.path).sort(), app, installed, manifest };
}
