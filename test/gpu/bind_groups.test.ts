import { equal, is, ok } from "uvu/assert";
import { add } from "../../src/autograd/ops/index.ts";
import { BindGroups } from "../../src/kernels/bind_groups.ts";
import { tensor } from "../../src/tensor/create.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

gpuTest(
  "bind groups are made once for the same buffers, and bounded on software devices",
  async () => {
    const groups = BindGroups.of(theGpu());
    const [a, b] = [tensor([1, 2]), tensor([3, 4])];
    add(a, b).dispose(); // its result's buffer is reused
    const { size } = groups;
    add(a, b).dispose();
    is(groups.size, size);
    if (theGpu().adapterClass === "gpu") return;
    const list = Array.from({ length: 70 }, (_, i) => tensor([i, -i]));
    const first = add(list[1]!, list[2]!);
    for (const x of list) for (const y of list) add(x, y).dispose(); // 4,900 pairs
    ok(groups.size <= 4096, `${groups.size}`);
    equal([...(await first.data())], [3, -3]);
    equal([...(await add(list[68]!, list[69]!).data())], [137, -137]);
  },
);

runTests();
