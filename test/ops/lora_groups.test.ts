import { equal } from "uvu/assert";
import { backward } from "../../src/autograd/backward.ts";
import { detach } from "../../src/autograd/grad.ts";
import { cast, linear, loraGroups, loraLinear, slice } from "../../src/autograd/ops/index.ts";
import { canGroup, type GroupsPlan, type RowGroup } from "../../src/autograd/ops/lora_groups.ts";
import { capture } from "../../src/tensor/capture.ts";
import { parameter, tensor, zeros } from "../../src/tensor/create.ts";
import { manualSeed, nextKey } from "../../src/tensor/philox.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, gpuTest, randomValues, runTests, throwsLike, tolerance } from "../gpu.ts";
import * as reference from "../reference/lora_groups.ts";

const [IN, OUT, RANKS] = [32, 48, [1, 4, 19]];
const ROWS = [8, 4, 12, 2];
const ADAPTERS = [2, null, 0, 1];

function inputs(transposed: boolean, trained = false) {
  const n = ROWS.reduce((a, b) => a + b);
  const values = (shape: number[], seed: number) =>
    tensor(
      randomValues(
        shape.reduce((a, b) => a * b),
        seed,
      ),
      shape,
    );
  const W = values(transposed ? [IN, OUT] : [OUT, IN], 2);
  const bias = values([OUT], 3);
  return {
    x: parameter(values([n, IN], 1)),
    W: trained ? parameter(W) : W,
    bias: trained ? parameter(bias) : bias,
    As: RANKS.map((r, i) => parameter(values([r, IN], 10 + i))),
    Bs: RANKS.map((r, i) => parameter(values([OUT, r], 20 + i))),
    dy: values([n, OUT], 4),
  };
}

/** Groups with or without dropping; keys are drawn as `loraLinear` draws them, in the order of the groups. */
function planOf(p: number, transposed: boolean): GroupsPlan {
  const groups = ADAPTERS.map((adapter, i): RowGroup => {
    const drops = adapter !== null && p > 0;
    const key = drops ? nextKey() : ([0, 0] as const);
    return { rows: ROWS[i]!, adapter, scale: 0.5 + i, p: drops ? p : 0, key };
  });
  return { transposed, groups };
}

for (const transposed of [false, true]) {
  for (const p of [0, 0.3]) {
    const what = `${transposed ? "transposed, " : ""}dropping ${p}`;
    gpuTest(`K3 K4 K7 lora_groups ${what}: each group alone, to the bit`, async () => {
      manualSeed(5);
      const t = inputs(transposed);
      const y = loraGroups(t.x, t.W, t.bias, t.As, t.Bs, planOf(p, transposed));
      backward(y, { gradient: t.dy });
      manualSeed(5);
      const alone = inputs(transposed);
      let start = 0;
      for (const [i, adapter] of ADAPTERS.entries()) {
        const rows = [start, start + ROWS[i]!] as const;
        start = rows[1];
        const x = parameter(detach(slice(alone.x, 0, ...rows)));
        const options = { scale: 0.5 + i, dropout: p, transposed };
        const own =
          adapter === null
            ? linear(x, alone.W, alone.bias, { transposed })
            : loraLinear(x, alone.W, alone.bias, alone.As[adapter]!, alone.Bs[adapter]!, options);
        backward(own, { gradient: slice(alone.dy, 0, ...rows) });
        equal(await slice(y, 0, ...rows).data(), await own.data(), `y of group ${i}`);
        equal(await slice(t.x.grad!, 0, ...rows).data(), await x.grad!.data(), `dx of group ${i}`);
      }
      for (const [i, A] of t.As.entries()) {
        equal(await A.grad!.data(), await alone.As[i]!.grad!.data(), `dA ${i}`);
        equal(await t.Bs[i]!.grad!.data(), await alone.Bs[i]!.grad!.data(), `dB ${i}`);
      }
    });
  }
}

gpuTest("K1 K2 lora_groups: against float64, gradients of weight and bias among them", async () => {
  const t = inputs(false, true);
  const y = loraGroups(t.x, t.W, t.bias, t.As, t.Bs, planOf(0, false));
  backward(y, { gradient: t.dy });
  const read = (list: Tensor[]) => Promise.all(list.map((one) => one.data()));
  const expected = reference.loraGroups(
    await t.dy.data(),
    await t.x.data(),
    await t.W.data(),
    await t.bias.data(),
    (await read(t.As)).map((A, i) => ({ A, r: RANKS[i]! })),
    await read(t.Bs),
    ROWS.map((rows, i) => ({ rows, adapter: ADAPTERS[i]!, s: 0.5 + i })),
    { in: IN, out: OUT },
  );
  const bound = tolerance("f32", IN + OUT);
  close(await y.data(), expected.y, bound, "y");
  close(await t.x.grad!.data(), expected.dx, bound, "dx");
  close(await t.W.grad!.data(), expected.dW, bound, "dW");
  close(await t.bias.grad!.data(), expected.dbias, bound, "dbias");
  for (const i of RANKS.keys()) {
    close(await t.As[i]!.grad!.data(), expected.dA[i]!, 2 * bound, `dA ${i}`);
    close(await t.Bs[i]!.grad!.data(), expected.dB[i]!, 2 * bound, `dB ${i}`);
  }
});

gpuTest("lora_groups: an adapter of several groups, and gradients that others began", async () => {
  const t = inputs(false);
  const groups = ROWS.map((rows) => ({ rows, adapter: 1, scale: 2, p: 0, key: [0, 0] as const }));
  const twice = () => {
    const y = loraGroups(t.x, t.W, null, t.As, t.Bs, { transposed: false, groups });
    backward(y, { gradient: t.dy });
  };
  twice();
  const once = await t.As[1]!.grad!.data();
  const [x, A, B] = [t.x, t.As[1]!, t.Bs[1]!].map((p) => parameter(p.clone())) as Tensor[];
  backward(loraLinear(x!, t.W, null, A!, B!, { scale: 2 }), { gradient: t.dy });
  close(once, await A!.grad!.data(), 1e-5, "dA of four groups is that of all rows");
  close(await t.Bs[1]!.grad!.data(), await B!.grad!.data(), 1e-5, "dB");
  equal(t.As[0]!.grad, null, "an adapter that no group uses has no gradient");
  twice();
  close(
    await t.As[1]!.grad!.data(),
    (once as Float32Array).map((v) => 2 * v),
    1e-5,
    "added up",
  );
});

gpuTest("lora_groups: bf16 weights; replayed, each call draws anew as an eager one", async () => {
  const run = async (captured: boolean) => {
    manualSeed(9);
    const t = inputs(false);
    const W = cast(t.W, "bf16");
    const fn = () => loraGroups(t.x, W, t.bias, t.As, t.Bs, planOf(0.5, false));
    const step = captured ? capture(fn) : fn;
    const values: Float32Array[] = [];
    for (let i = 0; i < 4; i++) values.push((await step().data()) as Float32Array);
    return values;
  };
  equal(await run(true), await run(false));
});

gpuTest("lora_groups: errors, before anything is computed", () => {
  const t = inputs(false);
  const groups = [{ rows: 26, adapter: 0, scale: 1, p: 0, key: [0, 0] as const }];
  const call = (plan: GroupsPlan["groups"], As = t.As, Bs = t.Bs) =>
    loraGroups(t.x, t.W, t.bias, As, Bs, { transposed: false, groups: plan });
  throwsLike(
    () => call([{ ...groups[0]!, rows: 25 }]),
    "ShapeError",
    "lora_groups: groups must be 26 rows together, each beginning at a multiple of 256 bytes, got 25",
  );
  throwsLike(
    () =>
      call([
        { ...groups[0]!, rows: 1 },
        { ...groups[0]!, rows: 25 },
      ]),
    "ShapeError",
    "got 1, 25",
  );
  throwsLike(
    () => call([{ ...groups[0]!, adapter: 3 }]),
    "ValueError",
    "lora_groups: groups must be of adapters 0 to 2, or null, got 3",
  );
  throwsLike(() => call(groups, [zeros([2, 8])]), "ShapeError", "a must be [r, in] = [2, 32]");
  equal(canGroup([{ rows: 1 }, { rows: 2 }], [64]), true);
  equal(canGroup([{ rows: 1 }, { rows: 2 }], [64, 63]), false);
});

runTests();
