// quantizeFolder: what it writes, what it reports, and what it refuses.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { fromPretrained, savePretrained } from "../../../src/nn/pretrained.ts";
import { dequantizeValues, quantizeValues } from "../../../src/tensor/quantized.ts";
import { loadSafetensors } from "../../../src/tensor/safetensors_file.ts";
import { quantizeFolder } from "../../../src/train/quantize/quantize_folder.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { close, gpuTest, runTests } from "../../gpu.ts";

async function refused(work: Promise<unknown>, ...expected: string[]): Promise<void> {
  const message = await work.then(
    () => "nothing was thrown",
    (error: Error) => `${error.name}: ${error.message}`,
  );
  for (const part of expected) ok(message.includes(part), `"${message}" lacks "${part}"`);
}

for (const base of ["llama-tiny-bf16", "gpt2-tiny"]) {
  gpuTest(
    `${base}: bytes and errors are those of the definition; the folder loads as the original rounded`,
    () =>
      inFolder(async (folder) => {
        const source = `${folder}/base`;
        cpSync(fixtureFolder(base), source, { recursive: true });
        for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(`${fixtureFolder("tokenizer-tiny")}/${file}`, `${source}/${file}`); // biome-ignore format: one line
        const phases: string[] = [];
        const report = await quantizeFolder(source, "nf4", `${folder}/q`, { onPhase: (p) => phases.push(p) }); // biome-ignore format: one line
        equal(phases, ["reading and rounding", "writing", "comparing"]);
        equal(readdirSync(`${folder}/q`).sort(), ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"].filter((f) => f !== "generation_config.json" || existsSync(`${folder}/q/${f}`))); // biome-ignore format: one line
        equal(readdirSync(folder).sort(), ["base", "q"]);

        const stored = await loadSafetensors(`${source}/model.safetensors`);
        const linear = [...stored].filter(([name, t]) => t.rank === 2 && /(attn|mlp)/.test(name));
        const [kindName, pattern] =
          base === "gpt2-tiny" ? ["c_fc", /c_fc/] : ["up_proj", /up_proj/];
        let [largest, errors, squares, layers] = [0, 0, 0, 0];
        for (const [name, t] of linear) {
          if (!pattern.test(name)) continue;
          const [rows, columns] = t.shape as [number, number];
          const values = (await t.data()) as Float32Array;
          const isTurned = base === "gpt2-tiny";
          const own = isTurned ? Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!) : values; // biome-ignore format: one line
          const shape = isTurned ? [columns, rows] : [rows, columns];
          const back = dequantizeValues(quantizeValues(own, shape, "nf4"), shape, "nf4");
          for (const [i, w] of own.entries()) {
            largest = Math.max(largest, Math.abs(back[i]! - w));
            errors += (back[i]! - w) ** 2;
            squares += w ** 2;
          }
          layers += 1;
        }
        const kind = report.kinds.find(({ name }) => name === kindName)!;
        is(kind.layers, layers);
        close([kind.largestError, kind.relativeError], [largest, Math.sqrt(errors / squares)], 1e-6, "errors"); // biome-ignore format: one line
        const width = base === "gpt2-tiny" ? 4 : 2;
        is(kind.bytesBefore, kind.parameters * width);
        is(
          report.kinds.reduce((sum, k) => sum + k.layers, 0),
          linear.length,
        );
        const bytes = [...stored.values()].reduce((sum, t) => sum + t.bytes, 0);
        is(report.bytesBefore, bytes);
        ok(report.bytesAfter > report.kinds.reduce((sum, k) => sum + k.bytesAfter, 0));

        const [loaded, rounded] = [await fromPretrained(`${folder}/q`), await fromPretrained(source, { quantize: "nf4" })]; // biome-ignore format: one line
        for (const [name, p] of rounded.stateDict()) equal(await loaded.stateDict().get(name)!.rawBytes(), await p.rawBytes(), name); // biome-ignore format: one line
        for (const t of stored.values()) t.dispose();
        loaded.dispose();
        rounded.dispose();
      }),
  );
}

gpuTest("what cannot be written or quantised is refused, and nothing is left behind", () =>
  inFolder(async (folder) => {
    const base = `${folder}/base`;
    cpSync(fixtureFolder("llama-tiny"), base, { recursive: true });
    await refused(quantizeFolder(base, "int8", base), "quantize: out must be apart from", "which is read"); // biome-ignore format: one line
    await quantizeFolder(base, "int8", `${folder}/q`);
    await refused(quantizeFolder(base, "int8", `${folder}/q`), "an empty folder, or nothing yet");
    await refused(quantizeFolder(`${folder}/q`, "int8", `${folder}/r`), "must be not quantised yet, got one with quantization_config"); // biome-ignore format: one line
    const before = readFileSync(`${folder}/q/model.safetensors`);
    using wide = await fromPretrained(base);
    wide.stateDict().get("model.layers.1.mlp.up_proj.weight")!.set(new Float32Array(56 * 32).fill(Infinity)); // biome-ignore format: one line
    await savePretrained(wide, base);
    await refused(quantizeFolder(base, "nf4", `${folder}/q`, { overwrite: true }), "load model.layers.1.mlp.up_proj.weight: the values must be finite"); // biome-ignore format: one line
    equal(readFileSync(`${folder}/q/model.safetensors`), before);
    equal(readdirSync(folder).sort(), ["base", "q"]);
    writeFileSync(`${base}/config.json`, "{");
    await refused(quantizeFolder(base, "nf4", `${folder}/r`), "is not JSON");
  }),
);

runTests();
