// How to get a (better) device on this machine. Node only.
import { readFileSync } from "node:fs";
import type { AdapterClass } from "./adapter.ts";

/** What to run to get the embedded software device. */
export const EMBEDDED_COMMAND = "npm install --save-dev @sparticuz/chromium";

/** The system's name and version as /etc/os-release gives them. */
export interface System {
  id: string;
  version: number;
  codename: string;
}

/** Which Linux this is; empty fields where it does not say. */
export function thisSystem(file = "/etc/os-release"): System {
  let text = "";
  try {
    text = readFileSync(file, "utf8");
  } catch {}
  const field = (name: string): string =>
    text.match(new RegExp(`^${name}="?([^"\n]*)`, "m"))?.[1] ?? "";
  return {
    id: field("ID"),
    version: Number.parseFloat(field("VERSION_ID")) || 0,
    codename: field("VERSION_CODENAME"),
  };
}

/** The commands (as root) that install lavapipe of Mesa 25 or newer; Dawn refuses Mesa 22. */
export function lavapipeCommands(system: System = thisSystem()): string[] {
  const apt = "apt-get update && apt-get install -y";
  switch (system.id) {
    case "debian":
      if (system.version > 12) return [`${apt} mesa-vulkan-drivers libvulkan1`];
      return [
        // The mirror that this machine uses already, so that it works behind a company's own too.
        `echo "deb $(apt-get indextargets --format '$(REPO_URI)' 'Release: bookworm' | head -n 1) ` +
          `bookworm-backports main" > /etc/apt/sources.list.d/bookworm-backports.list`,
        `${apt} -t bookworm-backports mesa-vulkan-drivers libvulkan1`,
      ];
    case "ubuntu":
      return [`${apt} mesa-vulkan-drivers libvulkan1`];
    case "fedora":
      return ["dnf install -y mesa-vulkan-drivers vulkan-loader"];
    case "arch":
      return ["pacman -S --noconfirm vulkan-swrast vulkan-icd-loader"];
    default:
      // A comment, since what `lowrank doctor --commands` prints is for a shell.
      return [
        "# install this system's Mesa Vulkan drivers, version 25 or newer, and a Vulkan loader",
      ];
  }
}

/** One or more lines for people: how to get a faster device here than the one in use. */
export function howToGetFaster(gpu: { readonly adapterClass: AdapterClass }): string {
  switch (gpu.adapterClass) {
    case "gpu":
      return "this is a GPU; nothing to mend";
    case "swiftshader":
      return (
        "lavapipe is about six times as fast as SwiftShader. As root:\n" +
        lavapipeCommands()
          .map((line) => `  ${line}`)
          .join("\n")
      );
    default:
      return "this is a software device; on a machine with a GPU and its Vulkan driver the GPU is taken by itself";
  }
}
