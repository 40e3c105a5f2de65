// SPDX-License-Identifier: Apache-2.0
/**
 * SIGKILL at random moments of a supervisor that writes at full speed. This tests our death, not a power cut.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom, systemClock, systemRandom } from "#clock.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { long } from "#tests/skip.ts";
import { examine, live } from "./storageDeath.ts";

const deaths = long("crash") ? 1_000 : 25;
/** The journal starts anew after so many deaths, or checking it would take ever longer. */
const deathsPerJournal = 25;
const lifeMsMax = 120;
const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Math.floor(systemRandom() * 2 ** 31));

let scratch = "";
let memory = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-kill-"));
  memory = memoryScratch("kill");
});
afterAll(() => {
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

test(
  `${deaths} deaths: nothing acknowledged is missing, nothing is there twice, order is kept (HOLDFAST_TEST_SEED=${seed})`,
  async () => {
    const random = seededRandom(seed);
    let acknowledged = 0;
    for (let death = 0; death < deaths; ) {
      const directory = join(scratch, `state-${death}`);
      const places = { directory, runDirectory: join(memory, "run") };
      let last = 0;
      for (let round = 0; round < deathsPerJournal && death < deaths; round += 1, death += 1) {
        // One in eight dies while it opens: replay and settling must survive that too.
        const atOpening = random() < 0.125;
        const lifeMs = random() * lifeMsMax;
        const life = await live(places, last + 1, seed + death, async (opened) => {
          if (!atOpening) await opened;
          await systemClock.sleep(lifeMs);
        });
        acknowledged += life.acked - last;
        const { last: found, broken } = await examine(places, life.acked);
        expect({ seed, death, broken }).toEqual({ seed, death, broken: [] });
        last = found;
      }
      rmSync(directory, { recursive: true, force: true });
    }
    expect(acknowledged).toBeGreaterThan(deaths);
  },
  deaths * 5_000,
);
