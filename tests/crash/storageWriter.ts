// SPDX-License-Identifier: Apache-2.0
/**
 * A program that is killed: writes numbered events and whole faults through Storage as fast as it can, and says on standard
 * output what was acknowledged (`acked N`, all up to N), what it has begun (`begun N`) and `open` once storage is there.
 *
 * Arguments: state directory, run directory, first number, seed. Ends by itself when standard input is closed.
 */
import { writeSync } from "node:fs";
import { seededRandom, systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { Storage } from "#storage/storage.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

const [directory = "", runDirectory = "", first = "1", seed = "1"] = process.argv.slice(2);
const random = seededRandom(Number(seed));
/** Rows that may wait before the writer pauses: beyond the queue's limit they would be dropped, which is not this test. */
const waitingMax = 600;

const say = (line: string): void => void writeSync(1, `${line}\n`);

let written = Number(first) - 1;
let stopping = false;

async function write(storage: Storage): Promise<void> {
  while (!stopping) {
    for (let count = 1 + Math.floor(random() * 40); count > 0; count -= 1) {
      written += 1;
      storage.event("count", "w", { number: written, padding: "x".repeat(Math.floor(random() * 200)) });
      if (random() < 0.05) writeFault(storage, random() < 0.8);
    }
    say(`begun ${written}`);
    if (storage.state().queuedRows > waitingMax) await storage.flush();
    else await systemClock.sleep(0);
  }
}

function writeFault(storage: Storage, judged: boolean): void {
  const id = storage.nextFaultId();
  storage.intent(sampleReport(id), sampleDecision(id));
  storage.report(sampleReport(id), samplePlan, sampleDecision(id));
  if (judged) storage.outcome(sampleOutcome(id));
}

async function acknowledge(storage: Storage): Promise<void> {
  while (!stopping) {
    const all = written;
    await storage.flush();
    say(`acked ${all}`);
    await systemClock.sleep(0);
  }
}

process.stdin.on("end", () => {
  stopping = true;
});
process.stdin.resume();
await using storage = await Storage.open({ directory, runDirectory, clock: systemClock, log: silentLog });
say("open");
await Promise.all([write(storage), acknowledge(storage)]);
