// SPDX-License-Identifier: Apache-2.0
/**
 * The flight record of a fault, read back from the journal that holds the fault. Gets the state directory and the fault;
 * gives its minute, or that of a fault just before it, which holds it too; null where none was kept.
 *
 * Read-only, opens and closes. @throws StorageError where the file cannot be read
 */
import { join } from "node:path";
import type { FlightRecord } from "#health.ts";
import { asStorageError, openReadOnly } from "./database.ts";
import type { FaultRecord } from "./journalReader.ts";
import { type EventHead, readHeadOrNull } from "./rows.ts";

/** Name of the event that holds one. */
export const flightEvent = "monitor.flight";
/** A record may be of a fault so long before this one, and hold this one as well. */
const sharedMs = 60_000;
/** Records looked at. */
const rowsMax = 64;

type Facts = { readonly fault: string; readonly faultMs: number; readonly record: FlightRecord };

export function readFlight(
  stateDirectory: string,
  fault: Pick<FaultRecord, "id" | "guard" | "atMs" | "head">,
): FlightRecord | null {
  const directory = fault.guard === "" ? stateDirectory : join(stateDirectory, "guards", fault.guard);
  const path = join(directory, "journal.db");
  try {
    using database = openReadOnly(path);
    const rows = database
      .query<{ head: string }, [number, number, string, number]>(
        `SELECT head FROM entry WHERE kind = 'event' AND at_ms BETWEEN ? AND ? AND substr(head, 1, 40) LIKE ?
         ORDER BY n DESC LIMIT ?`,
      )
      .all(fault.atMs - sharedMs, fault.atMs + sharedMs, `%"${flightEvent}"%`, rowsMax);
    const flights = rows.flatMap(({ head }) => {
      const event = readHeadOrNull<EventHead>(head);
      return event?.workload === fault.head.workload ? [event.facts as Facts] : [];
    });
    const own = flights.find((facts) => facts.fault === fault.id);
    const shared = flights.find(
      ({ record, faultMs }) => faultMs <= fault.atMs + 1_000 && (record.times.at(-1) ?? 0) >= fault.atMs,
    );
    return (own ?? shared)?.record ?? null;
  } catch (cause) {
    throw asStorageError(cause, `read the flight record of fault ${fault.id} from ${path}`);
  }
}
