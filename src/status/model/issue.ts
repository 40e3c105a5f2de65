// SPDX-License-Identifier: Apache-2.0
/**
 * An issue: what is wrong, what it causes, what to do; what issues are found from; and how bad it can be. Plain data.
 */
import type { VerbName } from "#verbs.ts";
import type { Told } from "../told.ts";
import type { HostFacts } from "./host.ts";
import type { FaultLine } from "./readModel.ts";

export const healths = ["healthy", "attention", "degraded", "failing"] as const;
export type Health = (typeof healths)[number];

export type Issue = {
  readonly code: string;
  readonly severity: Exclude<Health, "healthy">;
  /** "" where it is the box's own. */
  readonly workload: string;
  readonly title: string;
  readonly effect: string;
  readonly fix: string;
  /** The one verb that may cure it, as a button; null where only a person can. */
  readonly verb: VerbName | null;
  /** null where it is not known since when. */
  readonly sinceMs: number | null;
};

export type IssueFacts = {
  readonly told: Told;
  readonly host: HostFacts;
  readonly recent: readonly FaultLine[];
  readonly recordTrouble: string | null;
  readonly claimOpen: boolean;
  readonly nowMs: number;
};

export const times = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;
export const capital = (text: string): string => (text === "" ? "" : `${text[0]!.toUpperCase()}${text.slice(1)}`);
