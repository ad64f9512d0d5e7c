// Tuning, and the tensor-core kernel where there are no tensor cores: compiled by the null backend, and run
// with its fragments spelled out as arrays.
import { readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { equal, is, ok } from "uvu/assert";
import { kernel } from "../../src/kernels/kernel.ts";
import { matmulForward } from "../../src/kernels/matmul.ts";
import { clearTuning, loadTuning, saveTuning, tuneMatmul } from "../../src/kernels/matmul_tune.ts";
import { tunedChoices } from "../../src/kernels/matmul_variant.ts";
import { sources } from "../../src/kernels/sources.ts";
import { randn, tensor } from "../../src/tensor/create.ts";
import { randomState } from "../../src/tensor/philox.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { runModule } from "../child.ts";
import { close, gpuTest, randomValues, runTests, theGpu } from "../gpu.ts";
import { dropoutMask } from "../reference/dropout.ts";
import * as reference from "../reference/matmul.ts";

gpuTest(
  "tuneMatmul: measures each class once, keeps the choices in a file, draws no random numbers",
  async () => {
    const file = join(tmpdir(), `lowrank-tuning-${process.pid}.json`);
    clearTuning();
    try {
      const [a, b] = [randn([16, 64]), randn([64, 32])];
      const before = randomState();
      const work = () => matmulForward(a, b);
      const first = await tuneMatmul(work);
      is(first.length, 1);
      equal(randomState(), before);
      ok(first[0]!.times.length >= 2, "more than one kernel was right and timed");
      equal(await tuneMatmul(work), []);
      const choices = [...tunedChoices()];
      await saveTuning(file);
      clearTuning();
      is(await loadTuning(file), 1);
      equal([...tunedChoices()], choices);
      const expected = reference.matmul(
        Float64Array.from(await a.data()),
        [16, 64],
        Float64Array.from(await b.data()),
        [64, 32],
      );
      close(await work().data(), expected.data, 1e-5, "the tuned product");
      const { adapterClass, description } = theGpu();
      const bad = { [`${adapterClass}: ${description}`]: { "NNN f32": { variant: "magic" } } };
      await writeFile(file, JSON.stringify(bad));
      let message = "";
      await loadTuning(file).catch((error: Error) => {
        message = error.message;
      });
      ok(message.includes("loadTuning: NNN f32"), message);
      await writeFile(file, "{ damaged");
      await saveTuning(file).catch((error: Error) => {
        message = error.message;
      });
      ok(message.includes("is not JSON"), message);
      equal(
        await readFile(file, "utf8"),
        "{ damaged",
        "other devices' choices are not written over",
      );
    } finally {
      clearTuning();
      await rm(file, { force: true });
    }
  },
);

gpuTest("matmul.subgroup_matrix: the null backend compiles it", async () => {
  const source =
    sources["matmul.subgroup_matrix"] + sources["lib/threefry"] + sources["lib/quantized"];
  const { code, stdout, stderr } = await runModule(`
    import { create, globals } from "webgpu";
    Object.assign(globalThis, globals);
    const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
    const adapter = await gpu.requestAdapter();
    const device = await adapter.requestDevice({
      requiredFeatures: ["shader-f16", "chromium-experimental-subgroup-matrix"],
    });
    const module = device.createShaderModule({ code: ${JSON.stringify(source)} });
    const { messages } = await module.getCompilationInfo();
    for (const { type, lineNum, message } of messages) console.log(type, lineNum, message);
    process.exit(messages.some(({ type }) => type === "error") ? 1 : 0);
  `);
  is(code, 0, stdout + stderr);
});

/** The kernel with fragments as arrays, each lane computing them whole: slow, and runs anywhere. */
function emulated(): string {
  const load = (name: string, tile: string, across: string) => `
fn ${name}(offset: u32, stride: u32) -> array<f32, 256> {
  var m: array<f32, 256>;
  for (var line = 0u; line < 16u; line++) {
    for (var i = 0u; i < 16u; i++) {
      m[${across}] = f32(${tile}[offset + line * stride + i / 4u][i % 4u]);
    }
  }
  return m;
}`;
  const [straight, turned] = ["16u * line + i", "16u * i + line"];
  const helpers = `${load("load_a_row", "tile_a", straight)}${load("load_a_col", "tile_a", turned)}${load("load_b_row", "tile_b", straight)}${load("load_b_col", "tile_b", turned)}
fn load_sum(offset: u32) -> array<f32, 256> {
  var m: array<f32, 256>;
  for (var i = 0u; i < 256u; i++) {
    m[i] = scratch[offset + i];
  }
  return m;
}
fn store_sum(offset: u32, value: array<f32, 256>) {
  var m = value;
  for (var i = 0u; i < 256u; i++) {
    scratch[offset + i] = m[i];
  }
}
fn multiply_add(c: ptr<function, array<Sum, 16>>, at: u32, a: ptr<function, Left>, b: ptr<function, Right>) {
  for (var i = 0u; i < 256u; i++) {
    var sum = (*c)[at][i];
    for (var k = 0u; k < 16u; k++) {
      sum += (*a)[16u * (i / 16u) + k] * (*b)[16u * k + i % 16u];
    }
    (*c)[at][i] = sum;
  }
}`;
  const hasHalves = theGpu().features.has("shader-f16");
  const replaced = sources["matmul.subgroup_matrix"]
    .replace(/^(enable|diagnostic).*\n/gm, "")
    .replace(/^enable f16;$/m, "")
    .replace(/subgroup_matrix_\w+<\w+, 16, 16>/g, "array<f32, 256>")
    .replace(/subgroupMatrixLoad<Left, (row|col)_major>\(&tile_a, /g, "load_a_$1(")
    .replace(/subgroupMatrixLoad<Right, (row|col)_major>\(&tile_b, /g, "load_b_$1(")
    .replace(/subgroupMatrixLoad<Sum, row_major>\(&scratch, own, 16u\)/g, "load_sum(own)")
    .replace(
      /subgroupMatrixStore<row_major>\(&scratch, own, c\[f\], 16u\)/g,
      "store_sum(own, c[f])",
    )
    .replace(
      /\(\*c\)\[.*\] = subgroupMatrixMultiplyAccumulate\(.*\);/,
      "multiply_add(c, 4u * i + j, &v, &w[j]);",
    )
    .replace("let v = left_fragment", "var v = left_fragment")
    .replace(/^ *@builtin\(subgroup_\w+\).*\n/gm, "")
    .replace(
      "let batch = group.z",
      "let subgroup = thread / 32u;\n  let lane = thread % 32u;\n  let batch = group.z",
    );
  const typed = hasHalves ? replaced : replaced.replaceAll("f16>", "f32>");
  const head = "// requires: threefry, quantized\n";
  return `${head}${hasHalves ? "enable f16;\n" : ""}${typed.replace(head, "")}${helpers}`;
}

// A software device compiles this for a minute: `LOWRANK_SLOW=1 npm test -- matmul_tune` runs it.
const slowTest = process.env.LOWRANK_SLOW ? gpuTest : test.skip;
slowTest(
  "matmul.subgroup_matrix: with its fragments spelled out it computes every layout",
  async () => {
    const emulation = kernel("matmul_emulated", emulated());
    const [M, K, N, R, p] = [131, 37, 70, 5, 0.25];
    const halves = (n: number, seed: number) =>
      randomValues(n, seed).map((v) => Math.round(v * 64) / 64); // exact in f16
    const check = async (transposeA: boolean, transposeB: boolean, DROP: number, K: number) => {
      const [aShape, bShape] = [transposeA ? [K, M] : [M, K], transposeB ? [N, K] : [K, N]];
      const [a, b, P, Q] = [halves(M * K, 1), halves(K * N, 2), halves(M * R, 3), halves(R * N, 4)];
      const mask = DROP > 0 ? dropoutMask(DROP === 1 ? K * N : M * N, p, [3, 4]) : null;
      const kept = DROP === 1 ? b.map((v, i) => v * mask![i]!) : b;
      const tail = DROP === 1 ? null : reference.matmul(P, [M, R], Q, [R, N]).data;
      const expected = reference
        .matmul(a, aShape, kept, bShape, { transposeA, transposeB })
        .data.map((v, i) => v + (tail?.[i] ?? 0) * (DROP === 2 ? mask![i]! : 1));
      const y = Tensor.empty("emulated", [M, N], "f32");
      const t = { a: tensor(a, aShape), b: tensor(b, bShape), p: tensor(P, [M, R]) };
      const q = tensor(Q, [R, N]);
      emulation.run("matmul_subgroup_matrix", {
        tensors: { ...t, q, bias: t.a, y },
        params: {
          ...{ M, N, K, R, k_slice: 64, splits: 1, a_batch: 0, b_batch: 0, has_bias: 0 },
          ...{ accumulate: 0, transpose_y: 0, alpha: 1, key0: 3, key1: 4 },
          ...{ threshold: Math.floor(p * 2 ** 32), keep: 1 / (1 - p) },
        },
        constants: {
          ...{ TRANSPOSE_A: Number(transposeA), TRANSPOSE_B: Number(transposeB), DROP },
          ...{ WIDE_A: Number((transposeA ? M : K) % 4 === 0), TAIL: Number(DROP !== 1) },
          WIDE_B: Number((transposeB ? K : N) % 4 === 0),
        },
        groups: [Math.ceil(M / 128), Math.ceil(N / 128), 1],
      });
      const bound = DROP > 0 ? 2 ** -9 : 2 ** -18; // 1/(1 − p) is no f16
      const what = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"} drop ${DROP}`;
      close(await y.data(), expected, bound, what);
    };
    await check(false, true, 0, K);
    await check(true, false, 0, K);
    await check(false, false, 2, 36);
    await check(true, true, 1, 36);
  },
);

runTests();
