// SPDX-License-Identifier: Apache-2.0
/**
 * One answer of the doctor: what was found on a machine, what cannot be done for want of it, and what to do.
 */
import type { Box } from "#board/box.ts";

export type Check = {
  readonly name: string;
  /** `ok`: all of it works. `limited`: part of it. `missing`: none of it. */
  readonly status: "ok" | "limited" | "missing";
  readonly found: string;
  /** What cannot be done, in words; null where all of it works. */
  readonly effect: string | null;
  /** What to do about it; null where nothing can or need be done. */
  readonly advice: string | null;
};

export const ok = (name: string, found: string): Check => ({ name, status: "ok", found, effect: null, advice: null });

export function lacking(
  status: "limited" | "missing",
  name: string,
  found: string,
  effect: string,
  advice: string | null,
): Check {
  return { name, status, found, effect, advice };
}

/** Bits of a capability set (linux/capability.h). */
export const capabilities = { sysPtrace: 19n, sysAdmin: 21n, perfmon: 38n } as const;

export function hasCapability(box: Box, bit: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(box.text("/proc/self/status") ?? "")?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> bit) & 1n) === 1n;
}
