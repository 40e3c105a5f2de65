// SPDX-License-Identifier: Apache-2.0
/**
 * Notes of acts that take more than one step, so that a supervisor which dies between the steps leaves no thread that its
 * successor cannot understand: while system calls run in a thread, its registers are not its own.
 *
 * Gets a report and its decision; gives to the next supervisor, once, the registers to write before the thread goes on.
 * For an abandoned frame they are those that finish the act; else those of the fault, which then happens again. One small
 * file a thread, in memory, only where an act has such steps (measured: 30 µs). Read whole or not at all.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Decision, type FaultId, type FaultReport, isFatal } from "#fault.ts";
import { registerChanges } from "#suppression/apply.ts";

export type UnfinishedAct = { readonly fault: FaultId; readonly registers: ReadonlyMap<number, bigint> };

export class UnfinishedActs {
  readonly #directory: string;
  readonly #open = new Set<number>();
  /** What an earlier supervisor has left, by thread. */
  readonly #found = new Map<number, UnfinishedAct>();

  constructor(runDirectory: string) {
    this.#directory = join(runDirectory, "acts");
    for (const name of namesIn(this.#directory)) {
      const act = readAct(join(this.#directory, name));
      if (act !== null) this.#found.set(Number(name), act);
    }
    this.clear();
  }

  /** Where it cannot be written, the act is done all the same. */
  begin(report: FaultReport, decision: Decision): void {
    if (!hasSteps(report, decision)) return;
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const words = [...lastRegisters(report, decision)].map(([register, value]) => `${register}=${value}`);
      writeFileSync(this.#pathOf(report.tid), `${report.id} ${words.join(" ")}\n`, { mode: 0o600 });
      this.#open.add(report.tid);
    } catch {
      // A run directory that is full: only a supervisor that dies in this very millisecond would have needed it.
    }
  }

  end(tid: number): void {
    if (this.#open.delete(tid)) rmSync(this.#pathOf(tid), { force: true });
  }

  /** What is to be finished in a thread that was in this stop when we came; given once. */
  take(tid: number, signal: string): UnfinishedAct | null {
    const act = this.#found.get(tid) ?? null;
    this.#found.delete(tid);
    // Any other fatal signal is the fault itself: the first step had not begun. One that is not came in place of a step.
    return signal === "SIGTRAP" || !isFatal(signal) ? act : null;
  }

  clear(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #pathOf(tid: number): string {
    return join(this.#directory, String(tid));
  }
}

/** System calls run in the thread before its last write: a socket is replaced, a handler is left, the thread is parked. */
function hasSteps({ frames }: FaultReport, { edit, cut }: Decision): boolean {
  return cut || edit.kind === "park" || (edit.kind === "abandon" && frames.some(({ foundBy }) => foundBy === "signal"));
}

function lastRegisters(report: FaultReport, { edit }: Decision): ReadonlyMap<number, bigint> {
  if (edit.kind === "abandon" || edit.kind === "neutralise" || edit.kind === "leave")
    return registerChanges(report, edit);
  return new Map(report.registers.flatMap((value, register) => (value === null ? [] : [[register, value] as const])));
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /^\d+$/.test(name));
  } catch {
    return []; // No act was ever noted here.
  }
}

/** `FAULT REGISTER=VALUE …` and the end of the line; null where it is not whole. */
function readAct(path: string): UnfinishedAct | null {
  const words = /^(\S+)((?: \d+=\d+)+)\n$/.exec(readFileSync(path, "latin1"));
  if (words === null) return null;
  const pairs = words[2]!.trim().split(" ");
  const registers = new Map(
    pairs.map((pair) => {
      const [register, value] = pair.split("=");
      return [Number(register), BigInt(value!)] as const;
    }),
  );
  return { fault: words[1] as FaultId, registers };
}
