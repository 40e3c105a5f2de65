// SPDX-License-Identifier: Apache-2.0
/**
 * A restart of the whole box that we ask for ourselves. Gets the reason; the boot book keeps it for the next start, what is in
 * the journal is flushed, and the service manager is asked. Limit: `flushMs` for the flush.
 */
import type { Clock } from "#clock.ts";
import { NativeError } from "#errors.ts";
import type { Storage } from "#storage/storage.ts";
import type { BootBook } from "./bootBook.ts";

export type RestartNote = Parameters<BootBook["expect"]>[0];
export type BoxRestart = (note: RestartNote) => Promise<void>;

/** The record must be on the disk before the machine goes. */
const flushMs = 5_000;

/** @throws NativeError native.call where the service manager refuses */
export function boxRestartBy(
  boots: Pick<BootBook, "expect" | "forget">,
  storage: Pick<Storage, "flush">,
  clock: Clock,
  command: readonly string[] = ["systemctl", "reboot"],
): BoxRestart {
  return async (note) => {
    boots.expect(note);
    const patience = new AbortController();
    // A disk that is ill must not hold back the restart that may cure it.
    const flushed = storage.flush(patience.signal).catch(() => {});
    await Promise.race([flushed, clock.sleep(flushMs, patience.signal).catch(() => {})]);
    patience.abort();
    const refusal = await ask(command);
    if (refusal === null) return;
    boots.forget();
    throw new NativeError("native.call", `${command.join(" ")}: ${refusal}`);
  };
}

/** null where it was taken. */
async function ask(command: readonly string[]): Promise<string | null> {
  try {
    const child = Bun.spawn([...command], { stdio: ["ignore", "ignore", "pipe"] });
    const said = await child.stderr.text();
    return (await child.exited) === 0 ? null : said.trim().slice(0, 200) || `exit code ${child.exitCode}`;
  } catch (error) {
    return String(error);
  }
}
