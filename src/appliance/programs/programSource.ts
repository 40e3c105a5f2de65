// SPDX-License-Identifier: Apache-2.0
/**
 * Where a program comes from, and who brings it back: a command of ours, or a process that somebody else has started.
 */
import type { RestartPolicy } from "#config/schema.ts";
import type { Claim } from "../claim.ts";
import {
  attachedProgram,
  type GuardedProgram,
  type ProgramSetting,
  signalProgram,
  startProgram,
  takenOverProgram,
} from "../guardedProgram.ts";
import type { ProgramInput } from "./supervision.ts";

export type ProgramSource = {
  /** What runs already and is this program; null where nothing does. */
  adopt(): GuardedProgram | null;
  /** @throws ProgramError, StorageError */
  start(signal: AbortSignal): GuardedProgram | Promise<GuardedProgram>;
  /** Asks it to end in order; where it does not heed that, by force. */
  stop(program: GuardedProgram, how: "inOrder" | "byForce"): void | Promise<void>;
  /** Who answers for its ends: we start it again, systemd does, or nobody. */
  readonly owner: "us" | "systemd" | "nobody";
  /** Some ends are for others than us to answer. */
  policyFor(input: ProgramInput, policy: RestartPolicy): RestartPolicy;
  /** What somebody else has started since; null where nothing was. */
  appeared?(): GuardedProgram | null;
  /** Processes that belong to it and that it has not forked. */
  relatives?(): readonly number[];
};

export function commandSource(options: {
  readonly command: readonly string[];
  readonly claim: Claim;
  readonly outputToError: boolean;
  readonly setting?: ProgramSetting;
  readonly stopSignal?: NodeJS.Signals;
}): ProgramSource {
  const { command, claim, outputToError, setting, stopSignal = "SIGTERM" } = options;
  const { runDirectory } = claim;
  return {
    adopt: () => takenOverProgram(claim),
    start: () => startProgram({ command, runDirectory, outputToError, setting }),
    stop: ({ pid }, how) => void signalProgram(pid, how === "inOrder" ? stopSignal : "SIGKILL"),
    owner: "us",
    policyFor: (_, policy) => policy,
  };
}

/** A process that was attached to: its end is its own affair. */
export function processSource(pid: number, claim: Claim): ProgramSource {
  const attached = (): GuardedProgram => attachedProgram(pid, claim);
  return {
    adopt: attached,
    start: attached,
    stop: () => {},
    owner: "nobody",
    policyFor: (_, policy) => ({ ...policy, policy: "never" }),
  };
}
