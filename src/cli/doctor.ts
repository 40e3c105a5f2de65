// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast doctor [--json] [--state DIR]`: what this machine can do, what it cannot, why, and what to do about it.
 *
 * Exit code 0 where programs can be guarded, else 1. `--json` prints one object: `canGuard` and the list of checks.
 */
import type { Command } from "commander";
import type { Check } from "#appliance/doctor/check.ts";
import { type Diagnosis, diagnoseHere } from "#appliance/doctor.ts";
import { exitCodes } from "./exitCodes.ts";

type Flags = { readonly json?: true; readonly state?: string };

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("what this machine can do, what it cannot, and why")
    .option("--json", "print one JSON object")
    .option("--state <dir>", "ask about this state directory")
    .action((flags: Flags) => {
      const diagnosis = diagnoseHere(flags.state);
      console.log(flags.json === true ? JSON.stringify(diagnosis) : diagnosisText(diagnosis));
      process.exitCode = diagnosis.canGuard ? exitCodes.ok : exitCodes.no;
    });
}

const marks: Readonly<Record<Check["status"], string>> = { ok: "yes    ", limited: "partly ", missing: "no     " };

export function diagnosisText({ canGuard, checks }: Diagnosis): string {
  const width = Math.max(...checks.map((check) => check.name.length));
  const indent = " ".repeat(marks.ok.length + width + 2);
  const lines = checks.flatMap(({ name, status, found, effect, advice }) => [
    `${marks[status]}${name.padEnd(width)}  ${found}`,
    ...(effect === null ? [] : [`${indent}so: ${effect}`]),
    ...(advice === null ? [] : [`${indent}do: ${advice}`]),
  ]);
  const last = canGuard
    ? "Programs on this machine can be guarded."
    : "Nothing can be guarded on this machine yet: see the first lines that say no.";
  return [...lines, "", last].join("\n");
}
