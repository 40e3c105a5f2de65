// SPDX-License-Identifier: Apache-2.0
/**
 * One command in the shell on a guest's console, run on the box that has the guest. Arguments: the guest, the command.
 * Prints what the command said, in one line; fails after `patienceMs`.
 *
 * A boot forgets what came too early: the command is typed until it is answered, so it should bear to be run twice.
 */
import { readFileSync } from "node:fs";
import { ControlClient } from "#appliance/controlClient.ts";
import { systemClock } from "#clock.ts";

const patienceMs = 900_000;
const typeAgainMs = 30_000;
const lookMs = 500;
const runDirectory = "/run/holdfast";

const [guest = "", command = ""] = process.argv.slice(2);
const client = new ControlClient(runDirectory);
const mark = `G${Math.trunc(systemClock.wallMs())}`;
// The mark and its bracket are put together by the shell: what the console echoes is not an answer.
const line = `\nprintf '%s<%s>\\n' ${mark} "$(${command} 2>&1 | tr '\\r\\n' '  ')"\n`;
const answer = new RegExp(`^${mark}<(.*?)>`, "m");

function answered(): string | undefined {
  try {
    return answer.exec(readFileSync(`${runDirectory}/guests/${guest}/console.log`, "utf8"))?.[1]?.trim();
  } catch {
    return undefined; // It has printed nothing yet.
  }
}

const startedNs = systemClock.monotonicNs();
const elapsedMs = (): number => (systemClock.monotonicNs() - startedNs) / 1e6;
let typedMs = Number.NEGATIVE_INFINITY;
for (let found = answered(); ; found = answered()) {
  if (found !== undefined) {
    console.log(found);
    process.exit(0);
  }
  if (elapsedMs() > patienceMs) {
    console.log(`${guest} did not answer ${command}`);
    process.exit(1);
  }
  if (elapsedMs() - typedMs > typeAgainMs) {
    typedMs = elapsedMs();
    await client.type(guest, line).catch(() => {});
  }
  await systemClock.sleep(lookMs);
}
