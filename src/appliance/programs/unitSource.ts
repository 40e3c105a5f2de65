// SPDX-License-Identifier: Apache-2.0
/**
 * A systemd service as the source of a program: systemd starts it and starts it again, we guard what runs of it.
 *
 * Gets the name of the unit; gives its main process, and all others of its control group as relatives. Only a service that
 * lives and serves nobody is started again by us, through systemctl. Limits: `startMs` until its process is there.
 */
import type { Clock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { type AskMainPid, askSystemd, cgroupRoot, findControlGroup, readUnit } from "#monitor/units.ts";
import type { Claim } from "../claim.ts";
import { attachedProgram, type GuardedProgram } from "../guardedProgram.ts";
import type { ProgramSource } from "./programSource.ts";

const startMs = 30_000;
const lookMs = 100;

export type UnitOptions = {
  readonly unit: string;
  readonly claim: Claim;
  readonly clock: Clock;
  /** Another root than that of this machine, and another oracle than systemd, for tests. */
  readonly root?: string;
  readonly askMainPid?: AskMainPid;
};

/** `NAME` as well as `NAME.service`. */
export const unitName = (text: string): string => (/\.[a-z]+$/.test(text) ? text : `${text}.service`);

export function unitSource({
  unit,
  claim,
  clock,
  root = cgroupRoot,
  askMainPid = askSystemd,
}: UnitOptions): ProgramSource {
  const running = (): GuardedProgram | null => {
    const found = readUnit(unit, askMainPid, root);
    if (found === null) return null;
    // What is on record of an earlier main process says nothing about this one.
    const known = claim.running?.pid === found.mainPid ? claim : { ...claim, running: null };
    return attachedProgram(found.mainPid, known);
  };
  return {
    owner: "systemd",
    adopt: running,
    appeared: running,
    start: async (signal) => {
      await systemctl("start", unit);
      for (let waitedMs = 0; waitedMs < startMs; waitedMs += lookMs) {
        const program = running();
        if (program !== null) return program;
        await clock.sleep(lookMs, signal);
      }
      throw new ProgramError("program.gone", `nothing of ${unit} runs ${startMs} ms after its start`);
    },
    stop: async (_, how) => {
      await (how === "inOrder" ? systemctl("stop", "--no-block", unit) : systemctl("kill", "--signal=KILL", unit));
    },
    policyFor: (input, policy) => (input.kind === "ended" ? { ...policy, policy: "never" } : policy),
    relatives: () => readUnit(unit, () => null, root)?.pids ?? [],
  };
}

/** Whether this machine knows a unit of that name at all. */
export function requireUnit(unit: string, root = cgroupRoot): void {
  if (findControlGroup(unit, root) !== null) return;
  const asked = Bun.spawnSync(["sh", "-c", 'systemctl show --property=LoadState --value "$1"', "sh", unit]);
  const state = asked.stdout.toString().trim();
  if (!asked.success || state === "") {
    const why = asked.stderr.toString().trim().split("\n")[0] ?? "";
    throw new ProgramError("program.notFound", `no service ${unit} runs here, and systemd cannot be asked: ${why}`);
  }
  if (state !== "loaded") throw new ProgramError("program.notFound", `systemd knows no service ${unit} (${state})`);
}

/** @throws ProgramError program.state */
async function systemctl(...words: string[]): Promise<void> {
  try {
    const child = Bun.spawn(["systemctl", ...words], { stdio: ["ignore", "ignore", "pipe"] });
    const said = await child.stderr.text();
    if ((await child.exited) === 0) return;
    throw new ProgramError("program.state", `systemctl ${words.join(" ")} failed: ${said.trim().split("\n")[0]}`);
  } catch (cause) {
    if (cause instanceof ProgramError) throw cause;
    throw new ProgramError("program.state", `systemctl ${words.join(" ")} could not be run`, {}, cause);
  }
}
