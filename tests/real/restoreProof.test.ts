// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that stood still while its checkpoint was taken has the same memory when it is back, every page of it: the memory
 * files of both processes are read and compared. On the real Cloud Hypervisor, brought back lazily and eagerly.
 */
import { describe, expect } from "bun:test";
import { openSync, readdirSync, readlinkSync } from "node:fs";
import { MemoryFile } from "#board/native/memoryFile.ts";
import { systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuest } from "#tests/peers/tinyGuest.ts";
import { need } from "#tests/skip.ts";

const memoryBytes = 96 << 20;
const blockBytes = 1 << 20;

/** A hash of each MiB of a guest's memory. */
function memoryOf(pid: number): string[] {
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${name}`;
    if (!readlinkSync(path).startsWith("/memfd:")) continue;
    using file = new MemoryFile(openSync(path, "r"));
    if (file.bytes !== memoryBytes) continue;
    const block = new Uint8Array(new ArrayBuffer(blockBytes));
    return Array.from({ length: memoryBytes / blockBytes }, (_, index) => {
      file.read(index * blockBytes, block);
      return Bun.SHA256.hash(block, "hex");
    });
  }
  return [];
}

describe("memory that comes back", () => {
  for (const mode of ["lazy", "eager"] as const) {
    need(...realGuest)(
      `${mode}: is the memory that was there, page by page`,
      async () => {
        using ground = new Playground();
        const toml = [
          "[[guest]]",
          'name = "tiny"',
          `kernel = "${tinyGuest()}"`,
          'memory = "96M"',
          "stopMs = 500",
          "[guest.checkpoint]",
          "automatic = false",
          "pauseMsMax = 20000",
          `eagerMsMax = ${mode === "lazy" ? 0 : 60_000}`,
        ].join("\n");
        await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
        await run.next({ event: "guest", phase: "up" });
        await run.control.command("tiny", "pause");
        const before = memoryOf(ground.processOf("tiny")!);
        expect(before).toHaveLength(memoryBytes / blockBytes);
        await run.control.checkpoint("tiny", "create");
        const { id } = (await run.next({ event: "checkpoint" })) as { id: string };
        // It goes on, and its memory with it, before it is taken back.
        await run.control.command("tiny", "resume");
        await systemClock.sleep(100);
        await run.control.checkpoint(id, "restore");
        expect(await run.next({ event: "restore" })).toMatchObject({ mode });
        await run.next({ event: "restored" });
        expect(memoryOf(ground.processOf("tiny")!)).toEqual(before);
      },
      120_000,
    );
  }
});
