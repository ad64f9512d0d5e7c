// A real checkpoint, where it is at hand, against logits that another program computed in float64.
import { readFile } from "node:fs/promises";
import { equal, ok } from "uvu/assert";
import { noGrad } from "../../src/autograd/graph.ts";
import { slice } from "../../src/autograd/ops/index.ts";
import { generate } from "../../src/nn/generate.ts";
import { fromPretrained } from "../../src/nn/pretrained.ts";
import { tensor } from "../../src/tensor/create.ts";
import { close, runTests } from "../gpu.ts";
import { sharedTest } from "../shared.ts";

const FOLDER = "models/stories260k";

sharedTest("stories260k: loss, logits and 64 greedy tokens", FOLDER, async (folder) => {
  const reference = JSON.parse(await readFile(`${folder}/reference.json`, "utf8"));
  const ids = reference.input_ids as number[];
  const model = await fromPretrained(folder);
  const shifted = Int32Array.from([...ids.slice(1), -100]);
  const [inputs, targets] = [Int32Array.from(ids), shifted].map((v) => tensor(v, [1, v.length]));
  const loss = await noGrad(() => model.loss(inputs!, targets!)).item();
  const wanted = reference.mean_next_token_nll as number;
  ok(Math.abs(loss - wanted) < 2e-6, `${loss} not ${wanted}`);
  const T = ids.length;
  const last = noGrad(() => slice(model.call(inputs!), 1, T - 1, T));
  close(await last.data(), reference.last_logits, 2e-5, "last logits"); // rounded to 6 digits
  const [bos, ...rest] = reference.greedy_from_bos as number[];
  equal(await generate(model, [bos!], { maxNewTokens: rest.length, stop: [] }), rest);
  model.dispose();
});

runTests();
