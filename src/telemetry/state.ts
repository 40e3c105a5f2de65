// SPDX-License-Identifier: Apache-2.0
/**
 * The words of a box about itself: retained, and said by the broker when the box is lost. Gets session numbers and what
 * the broker holds; gives what to publish. Pure.
 *
 * Brokers differ on wills when a session is taken over, and a retained will stays until it is overwritten: so every word
 * carries the session number, and a box that sees anything else than its last words says them again.
 */
import type { Health, State } from "./payloads.ts";

/** Own words are repeated at most this often. */
export const repeatMs = 10_000;

export type Standing = "online" | "maintenance" | "offline";

/** The bytes of `P/state`. Keys in the order of the contract, so equal words are equal bytes. */
export function stateWords(sid: number, boot: string, standing: Standing, health: Health, atMs: number): string {
  return JSON.stringify({
    v: 1,
    s: standing,
    sid,
    boot,
    t: new Date(atMs).toISOString().replace(/\.\d+Z$/, "Z"),
    health,
  });
}

/** The will of session `sid`: without a time, as nobody knows when it will be said. */
export const willWords = (sid: number, boot: string): string => JSON.stringify({ v: 1, s: "lost", sid, boot });

export type Echo =
  | { readonly kind: "own" }
  /** Somebody else's words, or an old will, stand there: say ours again, not before `atMs`. */
  | { readonly kind: "repeat"; readonly atMs: number }
  /** The broker knows a later session than we do: our database was lost. Go on from `sid`. */
  | { readonly kind: "behind"; readonly sid: number };

/** What to do about the words the broker holds. `seen` is null where it holds nothing that can be read. */
export function judgeEcho(
  seen: { readonly text: string; readonly state: State | null },
  own: { readonly text: string; readonly sid: number; readonly saidAtMs: number },
  againMs = repeatMs,
): Echo {
  if (seen.text === own.text) return { kind: "own" };
  const sid = seen.state?.sid ?? 0;
  if (sid > own.sid && Number.isSafeInteger(sid + 1)) return { kind: "behind", sid: sid + 1 };
  return { kind: "repeat", atMs: own.saidAtMs + againMs };
}

/** A reader's side: the newest believable state of a box. A stale `lost` changes nothing. */
export function believe(known: State | null, said: State): State {
  if (known === null) return said;
  if (said.s === "lost" && said.sid < known.sid) return known;
  return said.sid < known.sid ? known : said;
}
