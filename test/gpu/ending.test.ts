// A process that used the device ends by itself, well or badly, and at once.
import { is, ok } from "uvu/assert";
import { runModule } from "../child.ts";
import { gpuTest, runTests } from "../gpu.ts";

// What a script does after init(), by the exit code that must follow.
const ENDINGS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  0: {
    "ends after a read": "await mul(x, x).data();",
    "ends with work that nobody reads": "for (let i = 0; i < 100; i++) mul(x, x);",
    "ends with reads that nobody awaits": "for (let i = 0; i < 9; i++) void mul(x, x).data();",
    "keeps the device in a global": "globalThis.kept = gpu;",
    "disposes of the device": "mul(x, x); gpu.dispose();",
    "loses the device": "mul(x, x); gpu.device.destroy();",
  },
  1: {
    throws: 'throw new Error("on purpose");',
    "throws with a read under way": 'void mul(x, x).data(); throw new Error("on purpose");',
    "rejects a promise": 'mul(x, x); void Promise.reject(new Error("on purpose"));',
    "throws in a timer while it awaits reads":
      'setTimeout(() => { throw new Error("on purpose"); }); for (;;) await mul(x, x).data();',
  },
  3: { "calls process.exit with a read under way": "void mul(x, x).data(); process.exit(3);" },
};

const START = `import { init, mul, tensor } from "./src/index.ts";
const gpu = await init();
const x = tensor([1, 2, 3]);
console.log("up");
`;

for (const [code, scripts] of Object.entries(ENDINGS)) {
  gpuTest(`exit code ${code} for a process that ${Object.keys(scripts).join("; ")}`, async () => {
    const ends = Object.entries(scripts).map(async ([what, script]) => {
      const ended = await runModule(START + script);
      is(ended.code, Number(code), `${what}: ${ended.signal ?? ""} ${ended.stderr}`);
      is(ended.stdout, "up\n", `${what}: ${ended.stderr}`);
      is(ended.stderr.includes("Error: on purpose"), code === "1", `${what}: ${ended.stderr}`);
      ok(ended.idle < 30_000, `${what}: it took ${ended.idle} ms to exit`);
    });
    await Promise.all(ends);
  });
}

runTests();
