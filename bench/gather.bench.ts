import { gatherRows, gatherRowsBackward } from "../src/kernels/gather.ts";
import { tensor } from "../src/tensor/create.ts";
import { bench } from "./harness.ts";
import { noise } from "./noise.ts";
import { looksAlive } from "./verify.ts";

const [ROWS, D, COUNT] = [4096, 768, 4096];
const ids = () => tensor(Int32Array.from({ length: COUNT }, (_, i) => (i * 7919) % ROWS));

bench("gather", [
  {
    name: `f32 ${COUNT} rows of [${ROWS}, ${D}] forward`,
    setup: () => {
      const [table, chosen] = [noise([ROWS, D]), ids()];
      const run = () => gatherRows(table, chosen);
      return { run, bytes: 8 * COUNT * D, verify: () => looksAlive(run()) };
    },
  },
  {
    name: `f32 ${COUNT} rows of [${ROWS}, ${D}] backward`,
    setup: () => {
      const [dy, chosen] = [noise([COUNT, D]), ids()];
      const run = () => gatherRowsBackward(dy, chosen, [ROWS, D]);
      return { run, bytes: 8 * COUNT * D, verify: () => looksAlive(run()) };
    },
  },
]);
