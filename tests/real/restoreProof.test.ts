// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that stood still while its checkpoint was taken has the same memory when it is back, every page of it: the memory
 * files of both processes are read and compared, with a nonce among them that no boot would bring. On the real Cloud Hypervisor, brought back lazily and eagerly.
 */
import { describe, expect } from "bun:test";
import { openSync, readdirSync, readlinkSync } from "node:fs";
import { fixedBytes } from "#board/native/libc.ts";
import { MemoryFile } from "#board/native/memoryFile.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { need } from "#tests/skip.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";

const memoryBytes = 96 << 20;

/** The memory file of a process of Cloud Hypervisor. */
function openMemory(pid: number, flags: "r" | "r+"): MemoryFile {
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${name}`;
    if (!readlinkSync(path).startsWith("/memfd:")) continue;
    const file = new MemoryFile(openSync(path, flags));
    if (file.bytes === memoryBytes) return file;
    file[Symbol.dispose]();
  }
  throw new ProgramError("program.gone", `process ${pid} has no memory file of ${memoryBytes} bytes`);
}

/** A hash of each page of a guest's memory. */
function memoryOf(pid: number): string[] {
  using file = openMemory(pid, "r");
  const page = fixedBytes(pageBytes);
  return Array.from({ length: memoryBytes / pageBytes }, (_, index) => {
    file.read(index * pageBytes, page);
    return Bun.hash.xxHash3(page).toString(16);
  });
}

/** A place that the tiny guest leaves alone. */
const nonceAt = 80 << 20;
function nonceIn(pid: number): string {
  using file = openMemory(pid, "r");
  const nonce = fixedBytes(32);
  file.read(nonceAt, nonce);
  return Buffer.from(nonce).toString("hex");
}

/** Writes a new nonce into the memory of a guest that stands still. */
function mark(pid: number): string {
  using file = openMemory(pid, "r+");
  const nonce = crypto.getRandomValues(fixedBytes(32));
  file.write(nonceAt, nonce);
  return Buffer.from(nonce).toString("hex");
}

describe("memory that comes back", () => {
  for (const mode of ["lazy", "eager"] as const) {
    need(...realGuest)(
      `${mode}: is the memory that was there, page by page`,
      async () => {
        using ground = new Playground();
        const kept = ["automatic = false", "pauseMsMax = 20000", `eagerMsMax = ${mode === "lazy" ? 0 : 60_000}`];
        const toml = tinyGuestToml(['memory = "96M"', "shared = true", "stopMs = 500"], kept);
        await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
        await run.next({ event: "guest", phase: "up" });
        await run.control.command("tiny", "pause");
        const nonce = mark(ground.processOf("tiny")!);
        const before = memoryOf(ground.processOf("tiny")!);
        await run.control.checkpoint("tiny", "create");
        const { id } = (await run.next({ event: "checkpoint" })) as { id: string };
        // It goes on, and its memory with it, before it is taken back.
        expect(mark(ground.processOf("tiny")!)).not.toBe(nonce);
        await run.control.command("tiny", "resume");
        await systemClock.sleep(100);
        await run.control.checkpoint(id, "restore");
        expect(await run.next({ event: "restore" })).toMatchObject({ mode });
        await run.next({ event: "restored" });
        expect(memoryOf(ground.processOf("tiny")!)).toEqual(before);
        expect(nonceIn(ground.processOf("tiny")!)).toBe(nonce);
        // A boot is told from a restore by it.
        await run.control.command("tiny", "stop");
        await run.control.command("tiny", "start");
        await run.next({ event: "guest", phase: "up" });
        expect(nonceIn(ground.processOf("tiny")!)).toBe("0".repeat(64));
      },
      120_000,
    );
  }
});
