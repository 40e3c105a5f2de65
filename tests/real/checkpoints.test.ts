// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints and restores of the tiny guest on the real Cloud Hypervisor: taken while it runs, by both methods; gone back to
 * by hand and after a fault; its memory the same, byte for byte, as it says itself (X where a page is wrong).
 */
import { describe, expect } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { need } from "#tests/skip.ts";

const real = need(...realGuest);
const timeoutMs = 120_000;
const up = { event: "guest", phase: "up" };

/** Long enough that a guest of 64 MiB comes back lazily. */
const lazily = "eagerMsMax = 0";

const guest = (...checkpoint: string[]): string =>
  tinyGuestToml(['memory = "128M"', "stopMs = 500"], ["pauseMsMax = 5000", ...checkpoint]);

const console_ = (ground: Playground): string => readFileSync(ground.directory("tiny").console, "utf8");

/** Resolves once the guest has gone round so many times more. */
async function goesRound(ground: Playground, rounds: number): Promise<void> {
  const file = ground.directory("tiny").console;
  const before = statSync(file).size;
  for (let look = 0; look < 3_000 && statSync(file).size < before + rounds * 3; look += 1) await systemClock.sleep(10);
  expect(statSync(file).size).toBeGreaterThanOrEqual(before + rounds * 3);
}

describe("checkpoints of the tiny guest", () => {
  for (const shared of [true, false]) {
    real(
      `${shared ? "from its memory file" : "streamed"}: taken while it runs, gone back to by hand, nothing wrong`,
      async () => {
        using ground = new Playground();
        const toml = guest(lazily).replace('memory = "128M"', `memory = "128M"\nshared = ${shared}`);
        await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
        await run.next(up);
        await goesRound(ground, 2);
        await run.control.checkpoint("tiny", "create");
        const first = await run.next({ event: "checkpoint" });
        expect(first).toMatchObject({ addedPages: expect.any(Number) });
        await goesRound(ground, 2);
        await run.control.checkpoint("tiny", "create");
        const second = (await run.next({ event: "checkpoint" })) as { id: string; addedPages: number };
        expect(second.addedPages).toBeLessThan(64);
        const pid = ground.processOf("tiny");
        await run.control.checkpoint(second.id, "restore");
        expect(await run.next({ event: "restore" })).toMatchObject({ checkpoint: second.id, mode: "lazy" });
        expect(ground.processOf("tiny")).not.toBe(pid);
        await run.next({ event: "restored" });
        await goesRound(ground, 3);
        expect(console_(ground)).not.toContain("X");
        // A boot says so; a restored guest goes on where it was.
        expect(console_(ground).match(/tiny guest/g)).toHaveLength(1);
        expect(await run.control.checkpoint(second.id, "verify")).toMatchObject({ problems: [] });
        // Its memory is a file now, whatever it was before.
        await run.control.checkpoint("tiny", "create");
        const third = (await run.next({ event: "checkpoint" })) as { id: string };
        expect(await run.control.checkpoint(third.id, "verify")).toMatchObject({ problems: [] });
        await goesRound(ground, 2);
      },
      timeoutMs,
    );
  }

  real(
    "the last good one is taken by itself, and is the rung after a killed process",
    async () => {
      using ground = new Playground();
      const toml = guest(lazily, "healthyMs = 1000");
      await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
      await run.next(up);
      const { id } = (await run.next({ event: "checkpoint" })) as { id: string };
      for (let look = 0; look < 1_000; look += 1) {
        if ((await run.control.checkpoints())[0]?.state === "good") break;
        await systemClock.sleep(20);
      }
      expect((await run.control.checkpoints())[0]).toMatchObject({ id, state: "good" });
      process.kill(ground.processOf("tiny")!, "SIGKILL");
      expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "hypervisorEnded", act: "restore" });
      expect(await run.next({ event: "restore" })).toMatchObject({ checkpoint: id });
      await expect(run.control.checkpoint("tiny", "create")).rejects.toThrow("still arrives");
      expect(await run.next({ event: "guestOutcome" })).toMatchObject({ rung: "restore", verdict: "clean" });
      await run.next({ event: "restored" });
      await goesRound(ground, 2);
      expect(console_(ground)).not.toContain("X");
      expect(console_(ground).match(/tiny guest/g)).toHaveLength(1);
    },
    timeoutMs,
  );
});
