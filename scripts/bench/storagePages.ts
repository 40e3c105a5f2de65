// SPDX-License-Identifier: Apache-2.0
/**
 * A Worker that writes pages as fast as the disk takes them, for scripts/bench/storage.ts. Gets a directory; runs until it is
 * terminated, and lets a few checkpoints live at a time.
 */
import { systemClock } from "#clock.ts";
import { defaultLimits } from "#storage/limits.ts";
import { PageFile } from "#storage/pageFile.ts";

declare const self: Worker;

const extentsAtOnce = 16;
const checkpointsKept = 2;
const batchesPerCheckpoint = 8;
const extentBytes = 32 * 1024;

self.onmessage = async (event: MessageEvent<string>): Promise<void> => {
  const conditions = { atMs: 0, freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };
  const pages = PageFile.open(event.data, conditions, defaultLimits);
  const body = crypto.getRandomValues(new Uint8Array(extentBytes));
  for (let checkpoint = 0; ; checkpoint += 1) {
    const written: number[] = [];
    for (let batch = 0; batch < batchesPerCheckpoint; batch += 1) {
      const first = pages.nextExtent;
      const numbers = Array.from({ length: extentsAtOnce }, (_, index) => first + index);
      const rest = { codec: "raw", hashes: new Uint8Array(128), identities: new Uint8Array(512), body } as const;
      pages.write(
        numbers.map((n) => ({ n, ...rest })),
        [],
      );
      written.push(...numbers);
      await systemClock.sleep(0);
    }
    const id = crypto.randomUUID();
    const none = new Uint8Array(0);
    pages.write([], [{ name: id, body: none, extents: written }]);
    pages.seal({ id, guest: "g", atMs: checkpoint, head: "{}", config: none, state: none, chunks: [id] });
    for (const old of pages.reader.checkpoints.slice(checkpointsKept)) pages.drop(old.id);
    pages.sweep();
  }
};
