// The device's two roofs: measured once, and nothing left behind.
import { is, ok } from "uvu/assert";
import { measureRoofline } from "../../src/kernels/roofline.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";

gpuTest("the roofline is measured once for a device, and leaves no tensor", async () => {
  const before = theGpu().stats().tensorsLive;
  const [first, second] = await Promise.all([measureRoofline(theGpu()), measureRoofline(theGpu())]);
  is(second, first, "two calls at once share one measurement");
  is(await measureRoofline(theGpu()), first);
  is(theGpu().stats().tensorsLive, before);
  for (const roof of [first.gflops, first.gbytesPerSecond]) ok(roof > 0 && Number.isFinite(roof));
});

runTests();
