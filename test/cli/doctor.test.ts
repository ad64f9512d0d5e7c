// `lowrank doctor`, run as a user runs it: what it prints, and its exit codes.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { equal, is, match, not, ok } from "uvu/assert";
import { lavapipeCommands, thisSystem } from "../../src/gpu/advice.ts";
import { inFolder } from "../child.ts";
import { gpuTest, runTests, theGpu } from "../gpu.ts";
import { lowrank } from "./command.ts";

/** The report's lines as a record; lines that go on belong to the row above. */
function rows(report: string): Record<string, string> {
  const found: Record<string, string> = {};
  let name = "";
  for (const line of report.trimEnd().split("\n")) {
    name = line.slice(0, 11).trim() || name;
    found[name] = (found[name] ? `${found[name]}\n` : "") + line.slice(12);
  }
  return found;
}

gpuTest("doctor prints adapter, driver, features, limits and advice", async () => {
  const ended = await lowrank(["doctor"]);
  is(ended.code, 0, ended.stderr);
  const report = rows(ended.stdout);
  const { adapterClass, description, features, immediates, info, limits, tried } = theGpu();
  is(report.machine, `${process.platform} ${process.arch}, Node ${process.version}`);
  is(report.device, description); // with the driver's name and version
  match(report.device!, info.description);
  is(report.class, adapterClass);
  ok(report.origin);
  is(report.tried, tried.join("\n"));
  match(report.f16!, features.has("shader-f16") ? /^yes/ : /^no/);
  match(report.subgroups!, features.has("subgroups") ? /^yes, \d+ to \d+ lanes/ : /^no/);
  match(report.timestamps!, features.has("timestamp-query") ? /^yes/ : /^no/);
  match(report.immediates!, immediates ? /^yes/ : /^no/);
  match(report.buffer!, /^\d+(\.\d)? [GM]iB, \d+(\.\d)? [GM]iB per binding$/);
  match(report.workgroup!, `${limits.maxComputeInvocationsPerWorkgroup} invocations, `);
  match(report.workgroup!, /[\d.]+ KiB of memory$/);
  if (adapterClass === "swiftshader") {
    match(report.faster!, "As root:");
    for (const command of lavapipeCommands()) match(report.faster!, command);
  }
  not.match(ended.stdout, /undefined|NaN|\[object/);
});

gpuTest(
  "doctor with an unknown adapter: exit code 1, and the adapters that are there",
  async () => {
    const ended = await lowrank(["doctor"], { LOWRANK_ADAPTER: "voodoo" });
    is(ended.code, 1);
    const report = rows(ended.stdout);
    is(report.asked, "LOWRANK_ADAPTER=voodoo");
    is(report.device, "none");
    match(ended.stderr, "init: adapter must be gpu, lavapipe, swiftshader or a part of a name");
    match(ended.stderr, 'got "voodoo"');
    not.match(ended.stderr, "    at "); // no stack for a user's mistake
  },
);

/** Throws where the shell cannot parse it; runs nothing. */
function parses(commands: string): void {
  execFileSync("bash", ["-n"], { input: commands });
}

gpuTest(
  "doctor --commands prints shell commands and nothing else, without any device",
  async () => {
    const ended = await lowrank(["doctor", "--commands"], { LOWRANK_ADAPTER: "voodoo" });
    is(ended.code, 0, ended.stderr);
    is(ended.stdout, `${lavapipeCommands().join("\n")}\n`);
    is(ended.stderr, "");
    parses(ended.stdout);
  },
);

gpuTest("the commands for every system are a shell's, and those of its package manager", () => {
  const commands = (id: string, version = 0) =>
    lavapipeCommands({ id, version, codename: "" }).join("\n");
  const systems: [string, number, string | RegExp][] = [
    ["debian", 12, /bookworm-backports main" > .*\n.*apt-get install -y -t bookworm-backports/],
    ["debian", 13, /^apt-get update && apt-get install -y mesa-vulkan-drivers libvulkan1$/],
    ["ubuntu", 25.04, "apt-get install -y mesa-vulkan-drivers"],
    ["fedora", 42, "dnf install -y mesa-vulkan-drivers"],
    ["arch", 0, "pacman -S --noconfirm vulkan-swrast"],
    ["voodoo", 1, /^# install .* Mesa Vulkan drivers, version 25 or newer/],
  ];
  for (const [id, version, expected] of systems) {
    match(commands(id, version), expected);
    parses(commands(id, version));
  }
});

gpuTest("the system is read from os-release, quoted or not, and may be missing", () =>
  inFolder((folder) => {
    const file = join(folder, "os-release");
    writeFileSync(file, 'PRETTY_NAME="X"\nID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n');
    equal(thisSystem(file), { id: "ubuntu", version: 24.04, codename: "noble" });
    equal(thisSystem(join(folder, "none")), { id: "", version: 0, codename: "" });
  }),
);

gpuTest("doctor --json prints one JSON object with the report's rows", async () => {
  const ended = await lowrank(["doctor", "--json"]);
  is(ended.code, 0, ended.stderr);
  const facts = JSON.parse(ended.stdout) as Record<string, string>;
  const report = rows((await lowrank(["doctor"])).stdout);
  equal(facts, report);
});

runTests();
