// What `lowrank bench` measures: that the figures are of what they say. No time is compared with another.
import { cpSync } from "node:fs";
import { equal, is, ok } from "uvu/assert";
import { gpu } from "../../../src/gpu/device.ts";
import { fromPretrained, savePretrained } from "../../../src/nn/pretrained.ts";
import { randomState } from "../../../src/tensor/philox.ts";
import { benchDevice, DEVICE_ROWS } from "../../../src/train/bench/bench_device.ts";
import { benchModel } from "../../../src/train/bench/bench_model.ts";
import { conditions, quantile, timed } from "../../../src/train/bench/timed.ts";
import { inFolder } from "../../child.ts";
import { fixtureFolder } from "../../fixtures.ts";
import { gpuTest, runTests } from "../../gpu.ts";

gpuTest("the median of rounds; two of them at least, warm ones beside", async () => {
  equal([quantile([4, 1, 3], 0.5), quantile([1, 2], 0.5), quantile([1, 2, 3, 4, 5], 0.25)], [3, 1.5, 2]); // biome-ignore format: one line
  let calls = 0;
  const work = async () => {
    calls += 1;
  };
  const { rounds } = await timed(work, 0, 3);
  equal([rounds, calls], [2, 5]);
  const where = conditions("device", "a", "b");
  ok(where.cores > 0 && where.cpu !== "" && !Number.isNaN(Date.parse(where.date)));
});

gpuTest("a device's rows: figures that go together, and nothing is left on it", async () => {
  const device = gpu("test");
  const [before, random] = [device.stats().bytesLive, randomState()];
  const seen: number[] = [];
  const rows = await benchDevice(device, { quick: true, seconds: 0, onRow: (_, n) => seen.push(n) }); // biome-ignore format: one line
  is(rows.length, DEVICE_ROWS);
  equal(seen, rows.map((_, i) => i + 1)); // biome-ignore format: one line
  for (const { name, ms, gflops, gbytesPerSecond, tokensPerSecond } of rows) {
    ok([gflops, gbytesPerSecond, tokensPerSecond].some((v) => v !== null && Number.isFinite(v)), name); // biome-ignore format: one line
    if (ms !== null) ok(ms > 0, name);
  }
  const [gemm] = rows;
  ok(Math.abs(gemm!.gflops! * gemm!.ms! * 1e6 - 2 * 64 * 128 * 128) < 1);
  const left = device.stats().bytesLive - before;
  ok(left <= 1024, `${left} bytes are left, more than a constant or two that ops keep`);
  equal(randomState(), random);
});

gpuTest("bytes by type are what loading takes, and quantised folders too", () =>
  inFolder(async (folder) => {
    cpSync(fixtureFolder("llama-tiny-nf4"), `${folder}/q`, { recursive: true });
    const device = gpu("test");
    const found = await benchModel(device, `${folder}/q`, { seconds: 0, length: 8 });
    const { baseBytes, generation, training, load } = found;
    is(baseBytes.int8, null, "what is nf4 cannot be held as int8");
    is(baseBytes.nf4, [...(await fromPretrained(`${folder}/q`)).stateDict().values()].reduce((sum, p) => sum + p.bytes, 0)); // biome-ignore format: one line
    ok(baseBytes.nf4! < baseBytes.bf16! && baseBytes.bf16! < baseBytes.f32!);
    is(generation!.merged, null);
    for (const v of [generation!.base, generation!.base8, generation!.adapter, training!.tokensPerSecond]) ok(Number.isFinite(v)); // biome-ignore format: one line
    ok(load.deviceBytes >= baseBytes.nf4! && load.seconds > 0);
    using wide = await fromPretrained(`${folder}/q`, { dtype: "f32" });
    await savePretrained(wide, `${folder}/w`);
    const plain = await benchModel(device, `${folder}/w`, { seconds: 0, length: 8, batch: 2 });
    ok(Number.isFinite(plain.generation!.merged!));
    equal([plain.training!.batch, plain.training!.length], [2, 8]);
    equal(plain.baseBytes.f32, baseBytes.f32);
    const loaded = await benchModel(device, `${folder}/w`, { loadOnly: true });
    equal([loaded.training, loaded.generation], [null, null]);
    const message = await benchModel(device, `${folder}/w`, { rank: 0 }).catch((e: Error) => e.message); // biome-ignore format: one line
    is(message, "bench: rank must be a positive integer, got 0.");
  }),
);

runTests();
