// SPDX-License-Identifier: Apache-2.0
/**
 * What a stub, or we on its behalf, will not do: as typed errors.
 */
import { GdbError } from "#errors.ts";

export const stale = (tid: number): GdbError =>
  new GdbError("gdb.stale", `thread ${tid} is not in the stop that was meant`, { tid });

export function expectOk(replies: readonly string[], what: string): void {
  for (const reply of replies) {
    if (reply !== "OK")
      throw new GdbError("gdb.refused", `gdbserver refused to ${what}`, { reply: reply.slice(0, 40) });
  }
}
