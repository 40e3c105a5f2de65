// SPDX-License-Identifier: Apache-2.0
/**
 * The issue of a version that came back: somebody is to look at it, until it is cleared or a newer one is kept. Pure.
 */
import type { Told } from "../told.ts";
import { capital, type Issue } from "./issue.ts";

export function updateIssues({ told }: { readonly told: Told }): Issue[] {
  if (!told.update.known) return [];
  const { lastRollback, refused, phase, version } = told.update.value;
  if (lastRollback === null || phase === "good") return [];
  if (!refused.some((each) => each.version === lastRollback.version)) return [];
  return [
    {
      code: "update.rolledBack",
      severity: "attention",
      workload: "",
      title: `Version ${lastRollback.version} was sent back`,
      effect: `The box runs ${version} as before. ${capital(lastRollback.reason)}`,
      fix: `Install a mended version, or let it try again: holdfast update clear ${lastRollback.version}`,
      verb: null,
      sinceMs: lastRollback.atMs,
    },
  ];
}
