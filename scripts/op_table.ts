// README's table of ops, made by trying each op with each element type on the device here: `npm run docs`.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as ops from "../src/autograd/ops/index.ts";
import { init } from "../src/gpu/device.ts";
import { DTypeError } from "../src/gpu/errors.ts";
import { ones, parameter, zeros } from "../src/tensor/create.ts";
import { DTYPES, type DType } from "../src/tensor/dtype.ts";
import { writeFileSafely } from "../src/tensor/files.ts";
import { QUANTIZED_TYPES } from "../src/tensor/quantized.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Ops that are tested together with another. */
const TESTED_WITH: Record<string, string> = {
  concat: "copy",
  reshape: "copy",
  slice: "copy",
  linear: "matmul",
};

/** Methods that cannot have the name of their function. */
const METHOD: Record<string, string> = { variance: "x.var()" };

type Result = Tensor | readonly Tensor[];

const { add, div, eq, ge, gt, le, lt, maximum, minimum, mul, ne, pow, sub } = ops;
const BINARY = { add, div, eq, ge, gt, le, lt, maximum, minimum, mul, ne, pow, sub };

/** How to call an op with a tensor [4, 4] as its first argument. Default: that and nothing else. */
const CALLS: Record<string, (t: Tensor) => Result> = {
  attention: (t) => {
    const heads = ops.reshape(t, [1, 4, 1, 4]);
    return ops.attention(heads, heads, heads);
  },
  broadcastTo: (t) => ops.broadcastTo(t, [2, 4, 4]),
  cast: (t) => ops.cast(t, "f32"),
  chunk: (t) => ops.chunk(t, 2),
  concat: (t) => ops.concat([t, t]),
  crossEntropy: (t) => ops.crossEntropy(t, ids()),
  dropout: (t) => ops.dropout(t, 0.5),
  embedding: (t) => ops.embedding(t, ids()),
  gather: (t) => ops.gather(t, 0, zeros([2, 4], "i32")),
  indexSelect: (t) => ops.indexSelect(t, ids()),
  layerNorm: (t) => ops.layerNorm(t, ones([4]), ones([4])),
  layerNormAdd: (t) => ops.layerNormAdd(t, t, ones([4]), ones([4])),
  linear: (t) => ops.linear(t, ones([4, 4])),
  linearCrossEntropy: (t) => ops.linearCrossEntropy(t, ones([4, 4]), null, ids()),
  loraGroups: (t) => groups(t, ones([4, 4])),
  loraLinear: (t) => ops.loraLinear(t, ones([4, 4]), null, ones([2, 4]), ones([4, 2])),
  loraLinearEach: (t) =>
    ops.loraLinearEach(t, [
      { weight: ones([4, 4]), bias: null, a: ones([2, 4]), b: ones([4, 2]) },
    ])[0]!,
  loraMixed: (t) => mixed(t, ones([4, 4])),
  matmul: (t) => ops.matmul(t, ones([4, 4])),
  permute: (t) => ops.permute(t, [1, 0]),
  reshape: (t) => ops.reshape(t, [16]),
  rmsNorm: (t) => ops.rmsNorm(t, ones([4])),
  rmsNormAdd: (t) => ops.rmsNormAdd(t, t, ones([4])),
  rope: (t) => ops.rope(ops.reshape(t, [1, 4, 1, 4]), ones([4, 2]), ones([4, 2])),
  slice: (t) => ops.slice(t, 0, 1, 3),
  split: (t) => ops.split(t, 2),
  swiglu: (t) => ops.swiglu(t, t),
  unsqueeze: (t) => ops.unsqueeze(t, 0),
  where: (t) => ops.where(zeros([4], "u32"), t, t),
};

/** How to call an op with a tensor [4, 4] as the weight, whose types differ from x's. */
const WEIGHTS: Record<string, (t: Tensor) => Result> = {
  linear: (t) => ops.linear(ones([4, 4]), t),
  linearCrossEntropy: (t) => ops.linearCrossEntropy(ones([4, 4]), t, null, ids()),
  loraGroups: (t) => groups(ones([4, 4]), t),
  loraLinear: (t) => ops.loraLinear(ones([4, 4]), t, null, ones([2, 4]), ones([4, 2])),
  loraLinearEach: (t) =>
    ops.loraLinearEach(ones([4, 4]), [
      { weight: t, bias: null, a: ones([2, 4]), b: ones([4, 2]) },
    ])[0]!,
  loraMixed: (t) => mixed(ones([4, 4]), t),
  matmul: (t) => ops.matmul(ones([4, 4]), t),
};

function groups(x: Tensor, weight: Tensor): Tensor {
  const group = { rows: 4, adapter: 0, scale: 1, p: 0, key: [0, 0] as const };
  const plan = { transposed: false, groups: [group] };
  return ops.loraGroups(x, weight, null, [ones([2, 4])], [ones([4, 2])], plan);
}

function mixed(x: Tensor, weight: Tensor): Tensor {
  const plan = {
    transposed: false,
    terms: [{ scale: 1, p: 0, key: [0, 0] as const }],
    rows: [[0]],
  };
  return ops.loraMixed(
    ops.reshape(x, [1, 4, 4]),
    weight,
    null,
    [ones([2, 4])],
    [ones([4, 2])],
    plan,
  );
}

const ids = (): Tensor => zeros([4], "i32");

/** The types with which a call is not refused. */
function typesOf(call: (t: Tensor) => Result, types: readonly DType[] = DTYPES): string {
  const found = types.filter((dtype) => {
    using _ = scope();
    try {
      call(zeros([4, 4], dtype));
      return true;
    } catch (error) {
      if (error instanceof DTypeError) return false;
      throw error;
    }
  });
  return found.length === types.length ? "all" : found.join(" ");
}

function hasGradient(call: (t: Tensor) => Result): boolean {
  using _ = scope();
  const x = parameter(ones([4, 4]));
  const gives = [call(x)].flat()[0]!.requiresGrad;
  x.dispose();
  return gives;
}

interface Facts {
  types: string;
  gradient: boolean;
}

function factsOf(name: string): Facts {
  const binary = (BINARY as Record<string, (a: Tensor, b: Tensor) => Tensor>)[name];
  const unary = (ops as unknown as Record<string, (t: Tensor) => Tensor>)[name]!;
  const call = CALLS[name] ?? (binary ? (t: Tensor) => binary(t, t) : unary);
  const weights = WEIGHTS[name];
  const types = weights
    ? `${typesOf(call)}; weight ${typesOf(weights, [...DTYPES, ...QUANTIZED_TYPES])}`
    : typesOf(call);
  return { types, gradient: hasGradient(call) };
}

/** The table as Markdown: functions, the types that they take, whether they have a gradient. Needs a device. */
export function opTable(): string {
  const index = read("src/autograd/ops/index.ts");
  const rows = ["| function | types | gradient | test |", "|---|---|---|---|"];
  for (const [, list, file] of index.matchAll(/export \{([^}]*)\} from "\.\/(\w+)\.ts"/g)) {
    const names = list!.split(",").flatMap((n) => n.trim().match(/^\w+$/)?.[0] ?? []);
    const test = TESTED_WITH[file!] ?? file;
    const groups = new Map<string, string[]>();
    for (const name of names) {
      const { types, gradient } = factsOf(name);
      const key = `${types} | ${gradient ? "yes" : "no"}`;
      groups.set(key, [...(groups.get(key) ?? []), name]);
    }
    for (const [facts, members] of groups) {
      const shown = members.map((n) => (METHOD[n] ? `\`${n}\` (\`${METHOD[n]}\`)` : `\`${n}\``));
      rows.push(`| ${shown.join(" ")} | ${facts} | [${test}](test/ops/${test}.test.ts) |`);
    }
  }
  return rows.join("\n");
}

/** README with the table in its place. */
export function readmeWithTable(readme: string): string {
  return readme.replace(/(<!-- ops -->\n)[\s\S]*(<!-- \/ops -->)/, `$1${opTable()}\n$2`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  using _ = await init();
  await writeFileSafely(join(root, "README.md"), readmeWithTable(read("README.md")));
}
