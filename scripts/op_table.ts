// README's table of ops, made from src/autograd/ops/index.ts and the kernel files: `npm run docs`.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeFileSafely } from "../src/tensor/files.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Ops without a gradient, as their docstrings say. */
const NO_GRADIENT = new Set(["argmax", "eq", "ne", "lt", "le", "gt", "ge"]);

/** Ops that are tested together with another. */
const TESTED_WITH: Record<string, string> = {
  concat: "copy",
  reshape: "copy",
  slice: "copy",
  linear: "matmul",
};

/** Methods that cannot have the name of their function. */
const METHOD: Record<string, string> = { variance: "x.var()" };

/** The table as Markdown: functions, whether frozen f16 and bf16 inputs are read, gradient, test. */
export function opTable(): string {
  const index = read("src/autograd/ops/index.ts");
  const rows = [...index.matchAll(/export \{([^}]*)\} from "\.\/(\w+)\.ts"/g)].map(
    ([, list, file]) => {
      const names = list!
        .split(",")
        .map((n) => n.trim())
        .filter((n) => n && !n.startsWith("type "));
      const shown = names
        .map((n) => (METHOD[n] ? `\`${n}\` (\`${METHOD[n]}\`)` : `\`${n}\``))
        .join(" ");
      const test = TESTED_WITH[file!] ?? file;
      const kernel = `src/kernels/${file}.ts`;
      const frozen = existsSync(join(root, kernel)) && read(kernel).includes('"bf16"');
      const without = names.filter((n) => NO_GRADIENT.has(n)).map((n) => `\`${n}\``);
      const all = without.length === names.length;
      const gradient = without.length === 0 ? "yes" : all ? "no" : `yes, but ${without.join(" ")}`;
      return `| ${shown} | ${frozen ? "yes" : ""} | ${gradient} | [${test}](test/ops/${test}.test.ts) |`;
    },
  );
  return ["| function | reads f16, bf16 | gradient | test |", "|---|---|---|---|", ...rows].join(
    "\n",
  );
}

/** README with the table in its place. */
export function readmeWithTable(readme: string): string {
  return readme.replace(/(<!-- ops -->\n)[\s\S]*(<!-- \/ops -->)/, `$1${opTable()}\n$2`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFileSafely(join(root, "README.md"), readmeWithTable(read("README.md")));
}
