// `lowrank doctor` on the command line.
import type { Command } from "commander";
import { action, examples } from "./action.ts";
import { doctor } from "./doctor.ts";

const EXAMPLES = examples({
  "lowrank doctor": "what is this machine's device, and is there a faster one?",
  "lowrank doctor --commands | sudo sh": "installs the faster software device, as root",
  "LOWRANK_ADAPTER=swiftshader lowrank doctor": "the same for the embedded software device",
});

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .summary("shows the device that is used here, what it can do, and how to get a faster one")
    .description(
      "Shows the device that is used here, what it can do, and how to get a faster one.\n" +
        "Exit code 1 where there is none.",
    )
    .option("--commands", "prints only the commands that install a faster software device")
    .addHelpText("after", EXAMPLES)
    .action(
      action<{ commands?: boolean }>(({ json }, { commands }) =>
        doctor(commands ? "commands" : json ? "json" : "report"),
      ),
    );
}
