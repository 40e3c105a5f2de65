// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of one stop: registers and cause, from the replies to `g` and to the request for siginfo.
 *
 * Gets texts; gives an Inspection or throws GdbError "gdb.gone" (the thread ended meanwhile) or "gdb.message".
 */
import { GdbError } from "#errors.ts";
import type { Registers, SignalCause } from "#fault.ts";
import { errorReply, parseHexBytes, parseSiginfo } from "./messages.ts";
import { patchRegisters, type RegisterLayout, readRegisters } from "./registers.ts";
import type { Stopped } from "./session.ts";
import { linuxSignalNumber } from "./signals.ts";

export type Inspection = {
  readonly tid: number;
  /** Linux name; SIGSTOP where the stop was asked for. */
  readonly signal: string;
  readonly registers: Registers;
  /** The bytes of `g`. */
  readonly raw: Uint8Array;
  /** null for a stop that was asked for, or where the stub does not know. */
  readonly cause: SignalCause | null;
};

export function readInspection(
  layout: RegisterLayout,
  stop: Stopped,
  [general = "", cause = ""]: readonly string[],
): Inspection {
  const { tid } = stop.thread;
  if (errorReply(general) !== null)
    throw new GdbError("gdb.gone", `the stub has no registers of thread ${tid}`, { tid });
  const raw = parseHexBytes(general);
  const registers = readRegisters(layout, raw);
  const read = errorReply(cause) === null && stop.gdbSignal !== 0 ? parseSiginfo(cause) : null;
  // The siginfo of another signal would be worse than none.
  const agrees = read !== null && read.number === linuxSignalNumber(stop.signal);
  return { tid, signal: stop.signal, registers, raw, cause: agrees ? read : null };
}

/** How to resume with a signal by GDB's number, 0 for none. gdbserver hands the one the thread stopped for on with its siginfo. */
export const deliverAction = ({ gdbSignal }: Pick<Stopped, "gdbSignal">): string =>
  gdbSignal === 0 ? "c" : `C${gdbSignal.toString(16).padStart(2, "0")}`;

export const unchanged: ReadonlyMap<number, bigint> = new Map();

/** `G` with the changed registers. @throws GdbError "gdb.refused" where the stub does not take packets so long */
export function writeRequest(
  layout: RegisterLayout,
  raw: Uint8Array,
  changes: ReadonlyMap<number, bigint>,
  packetBytesMax: number,
): string {
  const packet = `G${patchRegisters(layout, raw, changes).toHex()}`;
  if (packet.length <= packetBytesMax) return packet;
  const lengths = `all registers take ${packet.length} bytes, gdbserver takes packets of ${packetBytesMax}`;
  throw new GdbError("gdb.refused", lengths);
}
