// SPDX-License-Identifier: Apache-2.0
/**
 * A guest with a disk that it may write: on XFS its disk is cloned with its memory and comes back with it; on a file system
 * that shares no blocks the checkpoint is refused with the reason. On the real Cloud Hypervisor.
 */
import { describe, expect } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { need, root } from "#tests/skip.ts";

const diskBytes = 1 << 20;
const kept = ["automatic = false", "pauseMsMax = 20000"];
const configOf = (disk: string): string =>
  tinyGuestToml(['memory = "96M"', "stopMs = 500", `disks = [{ path = "${disk}" }]`], kept);

function writeDisk(path: string, text: string): void {
  const bytes = new Uint8Array(diskBytes);
  bytes.set(Buffer.from(text));
  writeFileSync(path, bytes, { flag: existsSync(path) ? "r+" : "w" });
}
const diskSays = (path: string): string => readFileSync(path).subarray(0, 6).toString();

/** A directory on tmpfs, which shares no blocks. */
function memoryPlace(): Disposable & { readonly path: string } {
  const path = mkdtempSync("/dev/shm/hf-");
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

describe("a guest with a disk", () => {
  need(
    ...realGuest,
    root,
    "mkfs.xfs",
    "losetup",
  )(
    "on XFS: memory and disk are of one moment",
    async () => {
      using ground = new Playground();
      const [image, mount] = [join(ground.path, "xfs.img"), join(ground.path, "xfs")];
      writeFileSync(image, "");
      truncateSync(image, 400 << 20);
      mkdirSync(mount);
      expect(Bun.spawnSync(["mkfs.xfs", "-q", "-m", "reflink=1", image]).exitCode).toBe(0);
      expect(Bun.spawnSync(["mount", "-o", "loop", image, mount]).exitCode).toBe(0);
      try {
        const disk = join(mount, "disk.img");
        writeDisk(disk, "before");
        await using run = new GuestRun(ground, configOf(disk), { real: snapshotHypervisor(), stopGuests: true });
        await run.next({ event: "guest", phase: "up" });
        await run.control.checkpoint("tiny", "create");
        const { id } = (await run.next({ event: "checkpoint" })) as { id: string };
        writeDisk(disk, "after!");
        await run.control.checkpoint(id, "restore");
        await run.next({ event: "restored" });
        expect(diskSays(disk)).toBe("before");
        expect(existsSync(`${disk}.replaced`)).toBe(false);
        // Its clone is its own: what the guest writes from now on does not reach the checkpoint.
        writeDisk(disk, "later!");
        await run.control.checkpoint(id, "restore");
        await run.next({ event: "restored" });
        expect(diskSays(disk)).toBe("before");
        await run.control.checkpoint(id, "delete");
        expect(existsSync(join(mount, ".holdfast", `${id}.disk0`))).toBe(false);
      } finally {
        Bun.spawnSync(["umount", "-l", mount]);
      }
    },
    120_000,
  );

  need(...realGuest)(
    "where blocks cannot be shared: refused, and the guest goes on",
    async () => {
      using ground = new Playground();
      using memory = memoryPlace();
      const disk = join(memory.path, "disk.img");
      writeDisk(disk, "before");
      await using run = new GuestRun(ground, configOf(disk), { real: snapshotHypervisor(), stopGuests: true });
      await run.next({ event: "guest", phase: "up" });
      await expect(run.control.checkpoint("tiny", "create")).rejects.toThrow("kept in step with its memory");
      expect(await run.control.show("tiny")).toMatchObject({ phase: "up" });
    },
    60_000,
  );
});
