import { runTests } from "../gpu.ts";
import { variantTests } from "./variants.ts";

variantTests("llama-tiny");
runTests();
