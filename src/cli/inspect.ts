// `lowrank inspect`: what an adapter, a model, a run or a file of tensors holds.
import type { Command } from "commander";
import { inspect } from "../train/inspect/index.ts";
import { action, examples } from "./action.ts";
import { factsText } from "./inspect_text.ts";
import { LateBar } from "./late_bar.ts";

const EXAMPLES = examples({
  "lowrank inspect out/run/adapter": "an adapter: its layers, what each learnt, and whether r fits",
  "lowrank inspect models/llama --tensors":
    "a model: architecture, sizes, names for target_modules, all tensors",
  "lowrank inspect model.safetensors": "the tensors of a file",
  "lowrank inspect out/run": "a run: settings, losses, memory, speed",
  "lowrank inspect out/run/adapter --json | jq .advice.r": "the rank that would do, for a script",
});

interface Options {
  tensors?: boolean;
}

export function addInspect(program: Command): void {
  program
    .command("inspect")
    .summary("shows what an adapter, a model, a run or a file of tensors holds")
    .description(
      "Shows what an adapter, a model, a run or a file of tensors holds. Needs no GPU, and of an\n" +
        "adapter not its base.\n\n" +
        "Of an adapter's layers it prints the spectrum of the learnt update s·B·A: its length, the\n" +
        "rank that holds 50 % and 90 % of its energy, and how many directions are as strong as the\n" +
        "first. From these follows the advice on r.",
    )
    .argument("<path>", "folder of an adapter, a model or a run, or a .safetensors file")
    .option("--tensors", "lists every tensor of a model")
    .addHelpText("after", EXAMPLES)
    .action(
      action<Options>(async (output, { tensors = false }, path: string) => {
        const bar = new LateBar(output, "layers");
        const facts = await inspect(path, (done, of) => bar.update(done, of));
        bar.end();
        output.document(facts);
        output.say(factsText(facts, tensors));
      }),
    );
}
