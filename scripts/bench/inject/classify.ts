// SPDX-License-Identifier: Apache-2.0
/**
 * What became of a server after an injected fault: one class a run, and whether Holdfast's own verdict is true.
 *
 * Gets what was seen from outside; gives the judgement. Pure. Survived: the same process, newcomers served rightly, no more
 * connections harmed than faults were injected. Strict: also nobody got a well-formed wrong answer, the guilty client
 * neither. A verdict is false where it says clean or degraded of a run that was not survived.
 */
import type { FaultEvent, OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import type { ClientFate } from "./load.ts";

export const runClasses = [
  "clean",
  "degraded",
  "escalated",
  "zombie",
  "silent corruption",
  "re-crash within probation",
  "dead",
] as const;
export type RunClass = (typeof runClasses)[number];

export type Observation = {
  /** Faults that the injector set up; each may cost one connection. */
  readonly injected: number;
  readonly faults: readonly FaultEvent[];
  /** In the order in which they were told. */
  readonly outcomes: readonly OutcomeEvent[];
  /** The same process all the time. */
  readonly same: boolean;
  readonly fates: readonly ClientFate[];
  /** Every client that was not harmed went on being answered. */
  readonly goesOn: boolean;
  readonly newcomers: readonly ClientFate[];
};

export type Judgement = {
  readonly class: RunClass;
  readonly survived: boolean;
  readonly strict: boolean;
  readonly harmed: number;
  readonly wrongAnswers: number;
  /** Connections that ended although no request of theirs can have been under way: certainly bystanders. */
  readonly resets: number;
  readonly falseVerdict: boolean;
  /** Judged failed although it was survived: too careful, but no lie. */
  readonly pessimistic: boolean;
};

const isWrong = ({ fate }: ClientFate): boolean => fate === "wrong" || fate === "garbled";

export function judgeRun(seen: Observation): Judgement {
  const harmed = seen.fates.filter(({ fate }) => fate !== "right");
  const wrongAnswers = [...harmed, ...seen.newcomers].filter(isWrong).length;
  const found = classOf(seen, harmed);
  const survived = found === "clean" || found === "degraded";
  const said = seen.outcomes.at(-1)?.verdict;
  return {
    class: found,
    survived,
    strict: survived && wrongAnswers === 0,
    harmed: harmed.length,
    wrongAnswers,
    resets: harmed.filter(({ fate, waiting }) => fate === "cut" && !waiting).length,
    falseVerdict: !survived && said !== undefined && said !== "failed",
    pessimistic: survived && said === "failed",
  };
}

function classOf(seen: Observation, harmed: readonly ClientFate[]): RunClass {
  const { injected, faults, outcomes, same, goesOn, newcomers } = seen;
  if (outcomes.some(({ rung }) => rung === "restart" || rung === "restore" || rung === "coldboot")) return "escalated";
  if (!same) return "dead";
  const isServing = goesOn && newcomers.length > 0 && newcomers.every(({ fate }) => fate === "right");
  if (isServing && harmed.length <= injected) {
    return outcomes.length > 0 && outcomes.every(({ verdict }) => verdict === "clean") ? "clean" : "degraded";
  }
  if (newcomers.some(isWrong) || (harmed.length > injected && harmed.some(isWrong))) return "silent corruption";
  return faults.length > injected ? "re-crash within probation" : "zombie";
}
