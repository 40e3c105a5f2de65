// SPDX-License-Identifier: Apache-2.0
/**
 * What the monitor and the boots say is wrong: detectors, clock, flash, a boot by the watchdog. Pure: facts in, issues out.
 */
import { type Detection, seenOr } from "#health.ts";
import type { Told } from "../told.ts";
import { capital, type Issue } from "./issue.ts";

const detectionsMax = 20;
/** An eMMC counts its life in tenths; from the last one on it is to be replaced. */
const wornRatio = 0.9;
const dayMs = 24 * 3_600_000;

type SeenFacts = { readonly told: Pick<Told, "monitor" | "boots">; readonly nowMs: number };

export function seenIssues({ told, nowMs }: SeenFacts): Issue[] {
  const { monitor, boots } = told;
  const about = { severity: "attention", workload: "", verb: null, sinceMs: null } as const;
  const issues = (monitor?.detections ?? []).slice(0, detectionsMax).map(detected);
  const clock = monitor?.host == null ? null : seenOr(monitor.host.clock, null);
  if (clock !== null && !clock.synced) {
    issues.push({
      ...{ ...about, code: "host.clockUnsynced" },
      title: "The clock is not kept by a time service",
      effect: "Times of faults may be wrong, and signed commands of admins are refused.",
      fix: "Switch a time service on (systemd-timesyncd, chrony), and let it reach its server.",
    });
  }
  for (const { device, usedRatio, spare } of monitor?.host == null ? [] : seenOr(monitor.host.flash, [])) {
    if (usedRatio < wornRatio && spare !== "urgent") continue;
    issues.push({
      ...{ ...about, code: "host.flashWorn", severity: spare === "urgent" ? "degraded" : "attention" },
      title: `The flash ${device} is worn`,
      effect: `${Math.round(usedRatio * 100)} % of its life is used; it will refuse writes one day.`,
      fix: "Plan its replacement, and take a backup of the record before.",
    });
  }
  const last = boots.at(-1);
  if (last !== undefined && nowMs - last.atMs < dayMs && (last.reason === "watchdog" || last.reason === "panic")) {
    issues.push({
      ...{ ...about, code: "box.watchdogBoot", sinceMs: last.atMs },
      title: last.reason === "watchdog" ? "The hardware watchdog restarted this box" : "The kernel of this box crashed",
      effect: `All sessions were lost. ${capital(last.why)}.`,
      fix: "Look at the boots on the System page, and at the log before that time.",
    });
  }
  return issues;
}

/** A probe without its answer is a program that is alive and does not serve. */
function detected({ detector, workload, sinceMs, text }: Detection): Issue {
  const zombie = detector === "probeFailing";
  return {
    ...{ code: zombie ? "workload.zombie" : `detected.${detector}`, workload, sinceMs, verb: null },
    severity: zombie ? "degraded" : "attention",
    title: workload === "" ? capital(text) : `${workload}: ${text}`,
    effect: zombie ? "It runs and does not serve." : "It may serve badly, or soon not at all.",
    fix: "See its curves under History and its counters; restart it if it does not recover.",
  };
}
