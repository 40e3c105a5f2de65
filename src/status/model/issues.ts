// SPDX-License-Identifier: Apache-2.0
/**
 * What is wrong now, what it causes and what to do; and the one line above all of it. Pure: told facts in, issues out.
 *
 * Codes are stable: scripts and fleets may switch on them. The worst issue gives the headline.
 */

import { metricDefinition } from "#metrics.ts";
import type { VerbName } from "#verbs.ts";
import type { Told, WorkloadTold } from "../told.ts";
import { fleetIssues } from "./fleetIssues.ts";
import { capital, type Health, healths, type Issue, type IssueFacts, times } from "./issue.ts";
import { type FaultLine, verdictOf } from "./readModel.ts";
import { seenIssues } from "./seenIssues.ts";
import { updateIssues } from "./updateIssues.ts";

export type Headline = {
  readonly health: Health;
  readonly text: string;
  readonly sinceMs: number;
};

/** Outcomes that went wrong count as news for so long. */
const newsMs = 24 * 3_600_000;
const quietHeatCelsius = 85;
const busyPressure = 0.5;
/** A supervisor that has said nothing for so long is stale. */
export const staleMs = 10_000;

export function findIssues(facts: IssueFacts): Issue[] {
  const found = [
    ...facts.told.workloads.flatMap((workload) => workloadIssues(workload)),
    ...outcomeIssues(facts),
    ...storageIssues(facts),
    ...boxIssues(facts),
    ...fleetIssues(facts),
    ...seenIssues(facts),
    ...updateIssues(facts),
  ];
  return found.sort((a, b) => healths.indexOf(b.severity) - healths.indexOf(a.severity));
}

export function headlineOf(issues: readonly Issue[], told: Told, nowMs: number): Headline {
  const worst = issues[0]?.severity ?? "healthy";
  const since = issues.map((issue) => issue.sinceMs).filter((at) => at !== null);
  const sinceMs = since.length > 0 ? Math.min(...since) : Math.min(told.startedMs, nowMs);
  return { health: worst, text: headlineText(worst, issues.length), sinceMs };
}

function headlineText(health: Health, issues: number): string {
  switch (health) {
    case "healthy":
      return "Healthy";
    case "attention":
      return `Needs attention: ${issues}`;
    case "degraded":
      return "Degraded";
    case "failing":
      return "Failing";
  }
}

function workloadIssues(workload: WorkloadTold): Issue[] {
  const { name, state, why, sinceMs, restarts, kind } = workload;
  const about = { workload: name, sinceMs };
  const cause = why === null ? "" : ` ${capital(why)}.`;
  const can = (verb: VerbName): VerbName | null => (workload.verbs.includes(verb) ? verb : null);
  if (state === "ended" || state === "down") {
    return [
      {
        ...about,
        code: "workload.down",
        severity: "failing",
        title: `${name} is not running`,
        effect: `Nobody is served by it.${cause}`,
        fix:
          kind === "guest"
            ? "Start the guest again."
            : "Start it again with holdfast guard, and look at its last fault.",
        verb: can("workload.release"),
      },
    ];
  }
  if (state === "error") {
    const spent = restarts !== null && restarts.used >= restarts.max;
    return [
      {
        ...about,
        code: spent ? "workload.budgetSpent" : "workload.error",
        severity: spent ? "failing" : "attention",
        title: spent ? `${name} used up its restarts` : `${name} is in the error state`,
        effect: `It stays down until somebody releases it.${cause}`,
        fix: spent
          ? "Find out what ends it (last faults, logs), then release it."
          : "Release it when it may run again.",
        verb: can("workload.release"),
      },
    ];
  }
  if (workload.suppressionOff) return [suppressionOff(workload)];
  if (state === "unguarded" || (!workload.protected && (state === "up" || state === "guarded"))) {
    return [
      {
        ...about,
        code: "workload.unprotected",
        severity: "degraded",
        title: `${name} is not protected`,
        effect: `The next fatal fault ends it, with all its sessions.${cause}`,
        fix: "See holdfast doctor for what is in the way; start the guard anew.",
        verb: null,
      },
    ];
  }
  return [];
}

function suppressionOff({ name, verbs }: WorkloadTold): Issue {
  return {
    code: "workload.suppressionOff",
    severity: "degraded",
    workload: name,
    title: `Suppression is switched off for ${name}`,
    effect: "The next fatal fault ends it, with all its sessions.",
    fix: "Switch it on again once whoever switched it off is done.",
    verb: verbs.includes("suppression.on") ? "suppression.on" : null,
    sinceMs: null,
  };
}

function outcomeIssues({ recent, nowMs }: IssueFacts): Issue[] {
  const news = recent.filter((fault) => fault.atMs > nowMs - newsMs);
  const byWorkload = Map.groupBy(news, (fault) => fault.workload);
  return [...byWorkload].flatMap(([workload, faults]) => {
    const failed = faults.filter((fault) => verdictOf(fault) === "failed");
    const degraded = faults.filter((fault) => verdictOf(fault) === "degraded");
    const issues: Issue[] = [];
    const first = (lines: readonly FaultLine[]): number => Math.min(...lines.map((line) => line.atMs));
    if (failed.length > 0) {
      issues.push({
        code: "outcome.failed",
        severity: "degraded",
        workload,
        title: `${workload}: ${times(failed.length, "fault")} not survived cleanly in 24 hours`,
        effect: "Sessions beside the guilty one may have been lost.",
        fix: "Open the fault: it names the function to mend and the act that did not hold.",
        verb: null,
        sinceMs: first(failed),
      });
    }
    if (degraded.length > 0) {
      issues.push({
        code: "outcome.degraded",
        severity: "attention",
        workload,
        title: `${workload}: ${times(degraded.length, "fault")} survived, degraded, in 24 hours`,
        effect: "It serves, but a value may be wrong, or a thread or a lock was given up.",
        fix: "Restart it at a quiet hour; the fault page says what was given up.",
        verb: null,
        sinceMs: first(degraded),
      });
    }
    return issues;
  });
}

function storageIssues({ told, recordTrouble }: IssueFacts): Issue[] {
  const { kind, why, overBudget } = told.storage;
  const about = { workload: "", sinceMs: null, verb: null };
  const issues: Issue[] = [];
  if (kind === "blind" || recordTrouble !== null) {
    issues.push({
      ...about,
      code: "storage.blind",
      severity: "degraded",
      title: "Faults cannot be recorded",
      effect: `Workloads are guarded all the same. ${capital(why || (recordTrouble ?? ""))}`,
      fix: "See to the disk of the state directory; holdfast storage verify says what is damaged.",
    });
  } else if (kind !== "normal") {
    issues.push({
      ...about,
      code: "storage.diskLow",
      severity: kind === "critical" ? "degraded" : "attention",
      title: "The disk is nearly full",
      effect: `History is thinned first, faults last. ${capital(why)}`,
      fix: "Free space on the file system of the state directory.",
    });
  } else if (why !== "") {
    issues.push({
      ...about,
      code: "storage.risk",
      severity: "attention",
      title: "The record is at risk",
      effect: capital(why),
      fix: "See to the disk of the state directory.",
    });
  }
  if (overBudget) {
    issues.push({
      ...about,
      code: "storage.wear",
      severity: "attention",
      title: "More is written than the flash is meant for",
      effect: "History is thinned until midnight.",
      fix: "Find what faults so often, or raise the daily budget.",
    });
  }
  return issues;
}

function boxIssues({ told, host, claimOpen, nowMs }: IssueFacts): Issue[] {
  const about = { workload: "", verb: null } as const;
  const issues: Issue[] = [];
  const hot = host.temperatures.find((zone) => zone.celsius >= quietHeatCelsius);
  if (hot !== undefined) {
    issues.push({
      ...about,
      sinceMs: null,
      code: "host.hot",
      severity: "attention",
      title: `${hot.zone} is at ${Math.round(hot.celsius)} °C`,
      effect: "The processor slows itself down to cool.",
      fix: "See to air flow, dust and the heat sink.",
    });
  }
  if ((host.pressure.memory ?? 0) > busyPressure) {
    issues.push({
      ...about,
      sinceMs: null,
      code: "host.memoryPressure",
      severity: "attention",
      title: "Memory is short",
      effect: "Everything waits for memory, and the kernel may end a program.",
      fix: "Give workloads less, or the box more.",
    });
  }
  if (claimOpen) {
    issues.push({
      ...about,
      sinceMs: told.startedMs,
      code: "page.claimOpen",
      severity: "attention",
      title: "This page has no owner yet",
      effect: "Whoever has the code from the console can claim it.",
      fix: "Claim it with the code that the supervisor printed at its start.",
    });
  }
  if (nowMs - told.atMs > staleMs) {
    issues.push({
      ...about,
      sinceMs: told.atMs,
      code: "page.stale",
      severity: "degraded",
      title: "The supervisor does not report",
      effect: "What is shown here may be old.",
      fix: "Look at the log of the supervisor.",
    });
  }
  return issues;
}

/** Upper bounds of the stop histogram, s. */
export const stopBounds = metricDefinition("stop_seconds").bounds ?? [];
