// SPDX-License-Identifier: Apache-2.0
/**
 * The right to change one stopped thread until it runs again: its registers, its program's memory, system calls in its name.
 *
 * Gets the stub's client and what differs between a program beside us and one inside a guest. A system call is a step, and a
 * step ends in a stop of its own: the right moves on to that one.
 */
import type { ThreadControl, VirtualAddress } from "#fault.ts";
import type { GdbClient } from "./gdb/client.ts";
import { runSystemCall, type Step, systemCallRegisters } from "./injectedCalls.ts";

export type ControlParts = {
  readonly pid: number;
  readonly tid: number;
  readonly client: GdbClient;
  writeMemory(at: VirtualAddress, bytes: Uint8Array): Promise<void>;
  /** @throws ProgramError "program.unsupported" where the program has none */
  systemCallInstruction(): bigint;
  /** Its signal is handed to it now. */
  delivered(): void;
  /** It is left inside a system call for good. */
  parked(): void;
};

/** @throws GdbError "gdb.stale" where the thread is not stopped */
export function threadControl(parts: ControlParts): ThreadControl {
  const { pid, tid, client } = parts;
  const { architecture } = client;
  let stopped = client.control(tid);
  return {
    pid,
    tid,
    writeRegisters: (changes) => stopped.writeRegisters(changes),
    writeMemory: (at, bytes) => parts.writeMemory(at, bytes),
    resume: () => stopped.resume(),
    deliver: () => {
      parts.delivered();
      return stopped.deliver();
    },
    systemCall: async (name, words) => {
      try {
        const step: Step = (changes) => client.step(tid, changes);
        return await runSystemCall(name, words, architecture, parts.systemCallInstruction(), step);
      } finally {
        stopped = client.control(tid);
      }
    },
    resumeInto: async (name, words) => {
      parts.parked();
      await stopped.writeRegisters(systemCallRegisters(name, words, architecture, parts.systemCallInstruction()));
      await stopped.resume();
    },
  };
}
