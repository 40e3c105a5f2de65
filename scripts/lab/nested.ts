// SPDX-License-Identifier: Apache-2.0
/**
 * The nested lab: a machine in software that runs Holdfast, Cloud Hypervisor and a real Debian guest.
 *
 * Gets an architecture and the two binaries it cannot get from Debian; gives the steps of the scenario as they end. Images
 * are cached, logs kept. Limit: `scenarioMsMax`.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { deadline } from "#clock.ts";
import { explain } from "#errors.ts";
import { run } from "#image/commands.ts";
import { initrdFor } from "./initrd.ts";
import { LabError } from "./labError.ts";
import { emulatorOf, runMachine } from "./machine.ts";
import { buildPayload } from "./payload.ts";
import { buildRoot, type LabArchitecture } from "./root.ts";
import type { Step } from "./scenario.ts";

export type NestedOptions = {
  readonly architecture: LabArchitecture;
  readonly bun: string;
  readonly hypervisor: string;
  readonly cache: string;
  /** Parts of names of the steps to run; empty for all. */
  readonly steps: readonly string[];
  /** Progress, for people. */
  readonly tell: (text: string) => void;
  readonly signal?: AbortSignal;
};

export const scenarioMsMax = 90 * 60_000;
const attemptsMax = 3;
/** For the guest's disk and its clones, on a file system that shares blocks. */
const scratchBytes = "4G";
const start = '/bin/sh -c "mount -t ext4 /dev/vdb /lab && exec /lab/init"';

/** Programs that the lab needs on this machine; what is missing is named. */
export function missingTools(architecture: LabArchitecture): string[] {
  const tools = [emulatorOf(architecture), "mmdebstrap", "mke2fs", "depmod", "modprobe", "git"];
  return tools.filter((tool) => Bun.which(tool, { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` }) === null);
}

export async function runNested(options: NestedOptions): Promise<Step[]> {
  const { architecture, bun, hypervisor, cache, steps: words, tell } = options;
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  const root = await buildRoot(architecture, cache, tell);
  tell("building the payload");
  const work = join(cache, `work-${architecture}-${process.pid}`);
  mkdirSync(work, { recursive: true });
  const logPath = join(cache, `nested-${architecture}.log`);
  rmSync(logPath, { force: true });
  const steps: Step[] = [];
  let ended = false;
  try {
    const payload = await buildPayload({ architecture, root, bun, hypervisor, work, words });
    const initrd = join(work, "initrd");
    await Bun.write(initrd, await initrdFor(root, start));
    const scratch = join(work, "scratch.img");
    await run(["truncate", "-s", scratchBytes, scratch]);
    tell(`starting the machine; its console is kept in ${logPath}`);
    const late = (): LabError => new LabError("lab.machine", `the scenario is not over after ${scenarioMsMax} ms`);
    using limit = deadline(scenarioMsMax, late, options.signal);
    const machine = {
      architecture,
      kernel: root.kernel,
      initrd,
      disks: [root.image, payload, root.image, scratch],
      logPath,
    };
    const take = (line: string): void => {
      if (line.startsWith("LAB ended")) ended = true;
      const said = /^LAB (\{.*\})\s*$/.exec(line)?.[1];
      if (said === undefined) return;
      const step = JSON.parse(said) as Step;
      steps.push(step);
      tell(describeStep(step));
    };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await runMachine(machine, take, limit.signal);
        break;
      } catch (error) {
        if (!(error instanceof LabError) || error.code !== "lab.frozen" || attempt === attemptsMax) throw error;
        tell(`${explain(error)}: the emulator's fault, not ours; once more`);
        steps.length = 0;
      }
    }
    limit.signal.throwIfAborted();
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (!ended) throw new LabError("lab.machine", `the machine ended before its scenario did; see ${logPath}`);
  return steps;
}

export function describeStep({ step, ok, ms, ...facts }: Step): string {
  const more = Object.entries(facts).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return `${ok ? "held" : "FAILED"} ${(ms / 1000).toFixed(1)} s  ${step}  ${more.join(" ")}`.trimEnd();
}
