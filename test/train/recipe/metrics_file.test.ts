// metrics.jsonl: appended line by line, cut back where a run goes on, whole lines only after a kill.
import { appendFileSync, readFileSync } from "node:fs";
import { test } from "uvu";
import { equal, is } from "uvu/assert";
import { MetricsFile, readMetrics } from "../../../src/train/recipe/metrics_file.ts";
import { inFolder } from "../../child.ts";

test("a run that goes on keeps the lines up to its step, once each", () =>
  inFolder(async (folder) => {
    const path = `${folder}/metrics.jsonl`;
    const first = await MetricsFile.open(path, false);
    for (const step of [1, 2, 3]) first.add({ kind: "step", step, loss: step });
    first.add({ kind: "valid", step: 3, loss: 9 });
    appendFileSync(path, '{"kind":"step","st'); // killed here
    equal(readMetrics(path).length, 4);

    const second = await MetricsFile.open(path, true);
    is(readMetrics(path).length, 4, "nothing changes before the run goes on");
    second.goOnAfter(2);
    is(second.has("step", 2), true);
    is(second.has("step", 3), false);
    second.goOnAfter(0);
    second.add({ kind: "step", step: 3, loss: 3 });
    const steps = readMetrics(path).map(({ kind, step }) => `${kind} ${step}`);
    equal(steps, ["step 1", "step 2", "step 3"]);
    is(readFileSync(path, "utf8").endsWith("}\n"), true);

    const fresh = await MetricsFile.open(path, false);
    fresh.goOnAfter(5);
    equal(readMetrics(path), []);
  }));

test.run();
