// SPDX-License-Identifier: Apache-2.0
/**
 * A program whose disk takes a second for every write: opens storage and puts 300 faults through it before the disk has
 * answered once. Prints what it saw and ends at once, without waiting for the disk. Arguments: state and run directory.
 */
import { writeSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { Storage } from "#storage/storage.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

const [directory = "", runDirectory = ""] = process.argv.slice(2);
const faults = 300;

const storage = await Storage.open({ directory, runDirectory, clock: systemClock, log: silentLog });
const openedBefore = storage.durableCursor === 0;
for (let fault = 0; fault < faults; fault += 1) {
  const id = storage.nextFaultId();
  storage.intent(sampleReport(id), sampleDecision(id));
  storage.report(sampleReport(id), samplePlan, sampleDecision(id));
  storage.outcome(sampleOutcome(id));
}
writeSync(1, JSON.stringify({ openedBefore, faults, ringSlots: storage.state().ringSlots }));
process.kill(process.pid, "SIGKILL");
