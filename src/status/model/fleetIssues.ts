// SPDX-License-Identifier: Apache-2.0
/**
 * What is wrong between this box and its fleet: broker, outbox, certificate, records of others. Pure: facts in, issues out.
 */
import type { Told } from "../told.ts";
import { capital, type Issue, times } from "./issue.ts";

const dayMs = 24 * 3_600_000;
/** The uplink raises its alarm at the same time. */
const certificateWarnMs = 30 * dayMs;
/** A broker may be away for an hour without anybody having to look. */
const oldestMsMax = 3_600_000;

type FleetFacts = { readonly told: Pick<Told, "uplink" | "metrics">; readonly nowMs: number };

export function fleetIssues({ told, nowMs }: FleetFacts): Issue[] {
  if (!told.uplink.known) return [];
  const { connected, why, sinceMs, droppedRows, oldestMs, certificateEndsMs } = told.uplink.value;
  const about = { severity: "attention", workload: "", verb: null } as const;
  const issues: Issue[] = [];
  if (!connected && why !== null) {
    issues.push({
      ...{ ...about, code: "uplink.refused", sinceMs },
      title: "The broker cannot be reached",
      effect: `The fleet does not hear of this box; messages are kept. ${capital(why)}`,
      fix: "See to the network, then to the broker's log.",
    });
  }
  if (oldestMs !== null && nowMs - oldestMs > oldestMsMax) {
    issues.push({
      ...{ ...about, code: "uplink.outboxOld", sinceMs: oldestMs },
      title: "Messages for the fleet wait for long",
      effect: "The fleet knows this box only as it was.",
      fix: "See to the broker; nothing is lost while the outbox has room.",
    });
  }
  if (droppedRows > 0) {
    issues.push({
      ...{ ...about, code: "uplink.dropping", sinceMs },
      title: `${times(droppedRows, "message")} for the fleet were dropped`,
      effect: "The outbox was full while the broker was away.",
      fix: "The record on this box still has all faults.",
    });
  }
  if (certificateEndsMs !== null && certificateEndsMs - nowMs < certificateWarnMs) {
    const days = Math.floor((certificateEndsMs - nowMs) / dayMs);
    issues.push({
      ...{ ...about, code: "uplink.certificateEnds", sinceMs: null },
      title: days < 0 ? "The client certificate has ended" : `The client certificate ends in ${times(days, "day")}`,
      effect: "From then on the broker refuses this box.",
      fix: "Issue a new certificate for this box and put it where the configuration says.",
    });
  }
  const failed = told.metrics.find((sample) => sample.name === "herd_used_total" && sample.labels[0] === "failed");
  if (failed?.kind === "value" && failed.value > 0) {
    issues.push({
      ...{ ...about, code: "fleet.recordFailed", sinceMs: null },
      title: `${times(failed.value, "rescue record")} of other boxes did not hold here`,
      effect: "This box tries its own way first at those places.",
      fix: "If more boxes say so, block the record: holdfast fleet send herd.block.",
    });
  }
  return issues;
}
