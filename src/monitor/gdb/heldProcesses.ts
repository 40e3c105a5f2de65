// SPDX-License-Identifier: Apache-2.0
/**
 * The processes that one stub holds: the program it was attached to, and those that it forks once that is asked for.
 *
 * With fork events gdbserver 13 stops parent and child at each fork until both are resumed; they may be asked for at any
 * time by naming the features anew, and a new connection forgets them (measured).
 */
import { GdbError } from "#errors.ts";
import type { GdbConnection } from "./connection.ts";
import { parseThreads } from "./messages.ts";
import { featuresRequest, passRequest } from "./session.ts";
import type { StopQueue } from "./stopQueue.ts";

export async function followForks(connection: GdbConnection, signal?: AbortSignal): Promise<void> {
  // A process that faults just when it is let go keeps its fault for whoever attaches next: the instruction runs again.
  await connection.request([passRequest.replace("QPassSignals", "QProgramSignals")], { signal });
  await connection.request([`${featuresRequest};fork-events+;vfork-events+`], { signal });
}

/** @throws GdbError "gdb.refused" where the stub does not hold it, or it has ended */
export async function letGoOf(connection: GdbConnection, pid: number, signal?: AbortSignal): Promise<void> {
  const [reply = ""] = await connection.request([`D;${pid.toString(16)}`], { signal });
  if (reply !== "OK") throw new GdbError("gdb.refused", `gdbserver did not let go of process ${pid}`, { reply });
}

/** All besides `pid`, which a client before us has had held: they are found and attached to as any child is. */
export async function letGoOfOthers(connection: GdbConnection, pid: number, signal?: AbortSignal): Promise<void> {
  const threads = parseThreads(await connection.xfer("threads:read:", { signal }));
  for (const other of new Set(threads.map(({ thread }) => thread.pid))) {
    if (other === pid) continue;
    await letGoOf(connection, other, signal).catch((error: unknown) => {
      // It has ended since it was listed.
      if (!(error instanceof GdbError) || error.code !== "gdb.refused") throw error;
    });
  }
}

/** The program has ended: so does gdbserver, which in non-stop mode would stay for ever (measured). It lets go of all others. */
export function endStub(connection: GdbConnection, events: Pick<StopQueue<unknown>, "finish">): void {
  events.finish();
  const exit = `qRcmd,${Buffer.from("exit").toHex()}`;
  connection.request([exit]).catch(() => {}); // It may end before it answers.
}
