import { runTests } from "../gpu.ts";
import { variantTests } from "./variants.ts";

variantTests("gpt2-tiny");
runTests();
