// SPDX-License-Identifier: Apache-2.0
/**
 * What the demo has shown, counted and in words. Gets the scene and the bystanders' final counts; gives a report and its lines.
 *
 * Pure but for the guard's list of contract violations, which it reads. `harmed` is null only where nothing was harmed and
 * at least one crash was really survived.
 */
import type { BystanderCounts } from "./bystanders.ts";
import { milliseconds, whole } from "./picture.ts";
import { type Scene, survived, unharmed } from "./scene.ts";
import { stopWords } from "./screen.ts";

export type DemoReport = {
  readonly pid: number;
  readonly samePid: boolean;
  readonly crashes: number;
  readonly survived: number;
  readonly degraded: number;
  /** Names of triggers that this package has fixed. */
  readonly fixed: readonly string[];
  readonly lost: readonly string[];
  readonly stopsUs: readonly number[];
  readonly bystanders: BystanderCounts;
  /** Why the exit code is not 0; null where nothing was harmed. */
  readonly harmed: string | null;
};

export function report(
  scene: Scene,
  bystanders: BystanderCounts,
  facts: { pid: number; samePid: boolean; guard: { violations: readonly string[] } },
): DemoReport {
  const crashes = scene.shots.filter((shot) => shot.state !== "fixed");
  const lost = crashes.filter((shot) => !survived(shot)).map((shot) => shot.trigger.name);
  const counted = {
    pid: facts.pid,
    samePid: facts.samePid,
    crashes: crashes.length,
    survived: crashes.length - lost.length,
    degraded: crashes.filter((shot) => shot.outcomes.at(-1)?.verdict === "degraded").length,
    fixed: scene.shots.filter((shot) => shot.state === "fixed").map((shot) => shot.trigger.name),
    lost,
    stopsUs: crashes.flatMap((shot) => shot.outcomes.map((outcome) => outcome.stopUs)),
    bystanders,
  };
  return { ...counted, harmed: harmOf(counted, facts.guard.violations) };
}

function harmOf(counted: Omit<DemoReport, "harmed">, violations: readonly string[]): string | null {
  if (!counted.samePid) return "the server is not the process it was";
  if (!unharmed(counted.bystanders)) return "bystanders were harmed";
  if (counted.lost.length > 0) return `not survived: ${counted.lost.join(", ")}`;
  if (violations.length > 0) return `the guard broke its contract: ${violations[0]}`;
  return counted.crashes === 0 ? "no crash happened, so nothing was shown" : null;
}

/** For people. `holdfast` is how they run it. */
export function summaryLines(report: DemoReport, holdfast: string): readonly string[] {
  const { bystanders } = report;
  const { latency } = bystanders;
  const degraded = report.degraded > 0 ? ` (${report.degraded} of them degraded)` : "";
  return [
    "",
    report.harmed === null ? "Nothing was harmed." : `HARMED: ${report.harmed}.`,
    `Crashes: ${report.survived} of ${report.crashes} survived${degraded}, ${report.samePid ? "same" : "not the same"} process, PID ${report.pid}.`,
    ...(report.fixed.length > 0 ? [`Fixed in this package, nothing to survive: ${report.fixed.join(", ")}.`] : []),
    `Stops: ${stopWords(report.stopsUs)}.`,
    `Bystanders: ${whole(bystanders.right)} answers right, ${bystanders.wrong} wrong, ${bystanders.missing} missing, ` +
      `${bystanders.lost} of ${bystanders.connections} connections cut; answered in ${milliseconds(latency.p50Us)} (median), ` +
      `${milliseconds(latency.p99Us)} (99 %), ${milliseconds(latency.maxUs)} (slowest).`,
    ...bystanders.evidence.map((words) => `  ${words}`),
    "",
    "Guard a server of your own:",
    `  ${holdfast} guard -- COMMAND ARGS…    starts and guards it`,
    `  ${holdfast} guard --pid PID           guards one that runs already`,
  ];
}
