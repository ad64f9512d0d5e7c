// A sweep for other machines: one command for each trial, as Slurm, Ray and Kubernetes take them.
import type { Task } from "./sweep.ts";

export const EXPORTS = ["slurm", "ray", "k8s"] as const;
export type ExportKind = (typeof EXPORTS)[number];

/** What runs a trial, wherever the folder of the sweep and the packages are. */
function commandOf(folder: string, { trial }: Pick<Task, "trial">): string {
  return `npx lowrank sweep ${quoted(folder)} --trial ${trial}`;
}

/**
 * A file that starts all the tasks.
 * @param folder  of the sweep, as the machines see it
 */
export function exported(kind: ExportKind, folder: string, tasks: readonly Task[]): string {
  if (kind === "slurm") return slurm(folder, tasks);
  return kind === "ray" ? ray(folder, tasks) : kubernetes(folder, tasks);
}

/** The name of that file in the sweep's folder. */
export function exportFile(kind: ExportKind): string {
  return { slurm: "sweep.sbatch", ray: "sweep.ray.sh", k8s: "sweep.k8s.yaml" }[kind];
}

/** How the file is used. */
export function startOf(kind: ExportKind, file: string): string {
  const commands = { slurm: "sbatch", ray: "bash", k8s: "kubectl apply -f" };
  return `${commands[kind]} ${quoted(file)}`;
}

function slurm(folder: string, tasks: readonly Task[]): string {
  return `#!/bin/bash
#SBATCH --job-name=lowrank-sweep
#SBATCH --array=0-${tasks.length - 1}
#SBATCH --output=${quoted(`${folder}/slurm-%a.log`)}
trials=(${tasks.map(({ trial }) => trial).join(" ")})
npx lowrank sweep ${quoted(folder)} --trial "\${trials[$SLURM_ARRAY_TASK_ID]}" --quiet
`;
}

function ray(folder: string, tasks: readonly Task[]): string {
  const lines = tasks.map(
    (task) => `ray job submit --no-wait -- ${commandOf(folder, task)} --quiet`,
  );
  return `#!/bin/bash\nset -e\n${lines.join("\n")}\n`;
}

/** An indexed job; the folder is that of a claim, and the image has the package. */
function kubernetes(folder: string, tasks: readonly Task[]): string {
  const trials = tasks.map(({ trial }) => trial).join(" ");
  return `# Put in the image that holds lowrank, and the claim that holds the sweep's folder and its data.
apiVersion: batch/v1
kind: Job
metadata:
  name: lowrank-sweep
spec:
  completionMode: Indexed
  completions: ${tasks.length}
  parallelism: ${tasks.length}
  template:
    spec:
      restartPolicy: OnFailure
      containers:
        - name: trial
          image: lowrank
          command:
            - bash
            - -c
            - |
              trials=(${trials})
              npx lowrank sweep ${quoted(folder)} --trial "\${trials[$JOB_COMPLETION_INDEX]}" --quiet
          volumeMounts:
            - name: sweep
              mountPath: ${JSON.stringify(folder)}
      volumes:
        - name: sweep
          persistentVolumeClaim:
            claimName: lowrank-sweep
`;
}

/** As a shell reads it. */
function quoted(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
