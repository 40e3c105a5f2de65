// SPDX-License-Identifier: Apache-2.0
/**
 * A program that does one act on one database and is killed at one of its operations by diskShim.c. Arguments: the act
 * (`migrate`, `batches` or `seal`) and the directory. Prints each step it has finished.
 */
import { writeSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { unreachable } from "#errors.ts";
import { Journal } from "#storage/journal.ts";
import { defaultLimits } from "#storage/limits.ts";
import { PageFile } from "#storage/pageFile.ts";
import { eventRow } from "#storage/rows.ts";

export type Act = "migrate" | "batches" | "seal";

const [act = "migrate", directory = ""] = process.argv.slice(2) as [Act, string];
const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };
const done = (step: string): void => void writeSync(1, `${step}\n`);

switch (act) {
  case "migrate":
    Journal.open(directory, conditions, systemClock)[Symbol.dispose]();
    done("migrated");
    break;
  case "batches": {
    using journal = Journal.open(directory, conditions, systemClock);
    const first = journal.cursor;
    for (let batch = 0; batch < 6; batch += 1) {
      const rows = [1, 2, 3].map((row) =>
        eventRow(`e-${first + batch * 3 + row}`, { event: "count", workload: "", facts: {} }, 1),
      );
      journal.write(rows);
      done(`batch ${first + batch * 3 + 3}`);
    }
    break;
  }
  case "seal": {
    using pages = PageFile.open(directory, conditions, defaultLimits);
    for (let checkpoint = 1; checkpoint <= 3; checkpoint += 1) {
      const first = pages.nextExtent;
      for (const n of [first, first + 1]) {
        const body = new Uint8Array(20_000).fill(n);
        pages.write([{ n, codec: "raw", hashes: new Uint8Array(128), identities: new Uint8Array(512), body }], []);
      }
      pages.write([], [{ name: `chunk-${checkpoint}`, body: new Uint8Array(10), extents: [first, first + 1] }]);
      const none = new Uint8Array(0);
      const head = JSON.stringify({ extents: [first, first + 1] });
      pages.seal({
        id: `c${checkpoint}`,
        guest: "g",
        atMs: checkpoint,
        head,
        config: none,
        state: none,
        chunks: [`chunk-${checkpoint}`],
      });
      done(`sealed c${checkpoint}`);
    }
    break;
  }
  default:
    unreachable(act);
}
