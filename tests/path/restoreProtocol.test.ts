// SPDX-License-Identifier: Apache-2.0
/**
 * Restores into a scripted receiver that speaks the real bytes: every page as it was taken, whatever the guest touches and
 * whenever; broken off at every step; and damage in every part of the store, of which not one byte reaches a guest.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pageFilePath } from "#restoration/checkpoints.ts";
import { HeldRestore } from "#restoration/heldRestore.ts";
import { type PageWaits, waitUsWithin } from "#restoration/pageWaits.ts";
import { Restore, restoreWorker } from "#restoration/restore.ts";
import type { RestoreOrder } from "#restoration/runRestore.ts";
import { CheckpointTaking } from "#restoration/takeCheckpoint.ts";
import { packTouches } from "#restoration/touchOrder.ts";
import { fileSettings, openWritable } from "#storage/database.ts";
import { defaultLimits } from "#storage/limits.ts";
import { PageFile } from "#storage/pageFile.ts";
import type { TakerScript } from "#tests/peers/migrationTaker.ts";

const top = mkdtempSync(join(tmpdir(), "restore-"));
const model = join(top, "model");
const seed = 11;
const conditions = { atMs: 0, freeBytes: 2 ** 40, afterError: false, damage: null };
const checkpoint = "c1";
let rounds = 0;

afterAll(() => rmSync(top, { recursive: true, force: true }));
beforeAll(async () => {
  mkdirSync(model);
  const socket = join(model, "out.sock");
  const script = JSON.stringify({ form: "files", seed });
  const peer = join(import.meta.dir, "../peers/migrationSender.ts");
  const sender = Bun.spawn([process.execPath, peer, socket, script], { stdio: ["ignore", "ignore", "inherit"] });
  using file = PageFile.open(model, conditions, defaultLimits);
  const disks = { owner: null, disks: [], cloneDirectory: model };
  const order = { id: checkpoint, guest: "g", atMs: 1, build: "v53.0", method: "memoryFile", socket } as const;
  using taking = new CheckpointTaking({ ...order, ...disks, hypervisorPid: sender.pid, heldMsMax: 60_000 }, file);
  taking.connect();
  taking.receive(() => {});
  taking.seal();
  file.tidy();
  await sender.exited;
}, 30_000);

type Seen = { readonly end: string; readonly wrong: number; readonly edited: boolean; readonly killed: boolean };
type Result = {
  readonly seen: Seen;
  readonly waits: PageWaits | null;
  readonly touched: readonly number[] | null;
  readonly failure: unknown;
};

/** A copy of the store, with this done to it. */
function storeWith(damage: (directory: string) => void): string {
  rounds += 1;
  const directory = join(top, `${rounds}`);
  cpSync(model, directory, { recursive: true });
  damage(directory);
  return directory;
}

async function restore(
  script: TakerScript,
  options: Partial<RestoreOrder> = {},
  directory = storeWith(() => {}),
  onceReady: (directory: string) => void = () => {},
  /** Held ready before it is wanted, with all that can be offered then, or with the memory alone. */
  held: "all" | "memory" | null = null,
): Promise<Result> {
  const socket = join(directory, "in.sock");
  const peer = join(import.meta.dir, "../peers/migrationTaker.ts");
  const taker = Bun.spawn([process.execPath, peer, socket, JSON.stringify(script)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const settings = { path: pageFilePath(directory), checkpoint, guest: "g", eagerBytesMax: 0, prefetchMsMax: 5_000 };
  const mode = script.lazy ? "lazy" : "eager";
  let [touched, failure]: [readonly number[] | null, unknown] = [null, null];
  let waits: PageWaits | null = null;
  try {
    const order = { ...settings, mode, disks: {}, ...options } as const;
    using restoring = held === null ? new Restore(order) : await holding(order, socket, taker.pid, held);
    if (held !== null) onceReady(directory);
    await restoring.ready();
    if (held === null) onceReady(directory);
    const { running, served } = restoring.run(socket, taker.pid);
    await running;
    touched = await served;
    waits = restoring.waits;
  } catch (error) {
    failure = error;
    // One that nobody came to has nothing to wait for.
    if (failure instanceof Error && "code" in failure && String(failure.code).startsWith("storage.")) taker.kill();
  }
  await taker.exited;
  const said = (await taker.stdout.text()).trim();
  const killed = taker.signalCode === "SIGKILL";
  const seen = said === "" ? { end: "nothing", wrong: 0, edited: false } : (JSON.parse(said) as Seen);
  return { seen: { ...seen, killed }, touched, waits, failure };
}

/** What has been offered lies with the receiver while nothing happens. */
async function holding(order: RestoreOrder, socket: string, pid: number, what: "all" | "memory"): Promise<Restore> {
  const held = await HeldRestore.rehearse(order, restoreWorker());
  try {
    expect(held.mode).toBe(order.mode ?? "lazy");
    await held.offer(socket, pid, what === "all");
    return held.begin();
  } finally {
    held[Symbol.dispose]();
  }
}

/** Changes the page file as no statement of ours would. */
function hurt(directory: string, sql: string): void {
  const database = openWritable(pageFilePath(directory), fileSettings.pages);
  database.run("PRAGMA foreign_keys = OFF");
  database.run(sql);
  database.close();
}

describe("a restore", () => {
  test("eager: all pages are there before it runs", async () => {
    const { seen, failure } = await restore({ lazy: false, seed });
    expect(failure).toBeNull();
    expect(seen).toMatchObject({ end: "whole", wrong: 0, edited: true });
  });

  test("lazy: nothing wrong, however many pages the guest touches out of turn; what it touched is told", async () => {
    const quiet = await restore({ lazy: true, seed });
    expect(quiet.failure).toBeNull();
    expect(quiet.seen).toMatchObject({ end: "whole", wrong: 0, edited: true });
    const busy = await restore({ lazy: true, seed, touches: 2_000 });
    expect(busy.seen).toMatchObject({ end: "whole", wrong: 0 });
    expect(busy.touched!.length).toBeGreaterThan(20);
    // Each touch waited; half of the waits are no longer than 99 % of them.
    const { count, sum } = busy.waits!;
    expect(count).toBe(busy.touched!.length);
    expect(sum).toBeGreaterThan(0);
    expect(waitUsWithin(busy.waits!, 0.5)!).toBeLessThanOrEqual(waitUsWithin(busy.waits!, 0.99)!);
  });

  test("lazy: the recorded working set is there before it runs", async () => {
    const directory = storeWith((path) => {
      using file = PageFile.open(path, conditions, defaultLimits);
      file.storeTouchOrder("g", 1, packTouches([5, 1_100, 2]));
    });
    const { seen, failure } = await restore({ lazy: true, seed, touches: 50 }, {}, directory);
    expect(failure).toBeNull();
    expect(seen).toMatchObject({ end: "whole", wrong: 0 });
  });

  for (const step of ["start", "memoryFd", "config", "state", "complete"]) {
    test(`the receiver hangs up at ${step}, or refuses it`, async () => {
      const left = await restore({ lazy: true, seed, hangUpAt: step });
      expect(left.failure).toMatchObject({
        code: expect.stringMatching(/hypervisor\.(peerClosed|protocol)|native\.closed/),
      });
      const refused = await restore({ lazy: true, seed, refuse: step });
      expect(refused.failure).toMatchObject({
        code: expect.stringMatching(/hypervisor\.(rejected|peerClosed|protocol)/),
      });
    });
  }

  for (const what of ["all", "memory"] as const) {
    test(`held ready with ${what} of what can be offered before: nothing wrong, lazily and eagerly`, async () => {
      for (const lazy of [true, false]) {
        const script = { lazy, seed, touches: 500 };
        const { seen, failure } = await restore(script, {}, undefined, undefined, what);
        expect(failure).toBeNull();
        expect(seen).toMatchObject({ end: "whole", wrong: 0, edited: true });
      }
    });
  }

  test.each(["start", "memoryFd", "config", "state"])(
    "held ready, and left or refused at %s: an error",
    async (step) => {
      for (const script of [{ hangUpAt: step }, { refuse: step }]) {
        const { seen, failure } = await restore({ lazy: true, seed, ...script }, {}, undefined, undefined, "all");
        expect(failure).toMatchObject({ code: expect.stringMatching(/hypervisor\.|native\.closed/) });
        expect(seen.end).not.toBe("whole");
      }
    },
  );

  test("damage that comes while it is held ready: a clear error, and no wrong byte", async () => {
    const sql = "UPDATE extent SET body = zeroblob(length(body)), codec = 0 WHERE n >= 3";
    const script = { lazy: true, seed, touches: 50 };
    const { seen, failure } = await restore(script, {}, undefined, (path) => hurt(path, sql), "all");
    expect(failure).toMatchObject({ code: "storage.pageCorrupt" });
    expect(seen).toMatchObject({ wrong: 0, killed: true });
  });

  test("a page outside the guest's memory ends the guest", async () => {
    const { seen, failure } = await restore({ lazy: true, seed, askOutside: true });
    expect(failure).toMatchObject({ code: "hypervisor.protocol" });
    expect(seen.killed).toBe(true);
  });

  const damages: [string, string, string][] = [
    [
      "a flipped bit in a stored page",
      "UPDATE extent SET body = zeroblob(length(body)), codec = 0 WHERE n = 3",
      "storage.pageCorrupt",
    ],
    ["a changed hash", "UPDATE extent SET hashes = zeroblob(128) WHERE n = 3", "storage.pageCorrupt"],
    ["a missing extent", "DELETE FROM extent WHERE n = 3", "storage.extentMissing"],
    ["a damaged map chunk", "UPDATE map_chunk SET body = zeroblob(40)", "storage.checkpointCorrupt"],
    ["a missing map chunk", "DELETE FROM checkpoint_chunk; DELETE FROM map_chunk", "storage.checkpointCorrupt"],
    ["a damaged configuration", "UPDATE checkpoint SET config = zeroblob(10)", "storage.checkpointCorrupt"],
    ["a damaged device state", "UPDATE checkpoint SET state = zeroblob(10)", "storage.checkpointCorrupt"],
    ["a damaged head", "UPDATE checkpoint SET head = replace(head, 'v53.0', 'v53.1')", "storage.checkpointCorrupt"],
  ];
  test.each(damages)("%s: a clear error, and no wrong byte", async (_, sql, code) => {
    for (const lazy of [true, false]) {
      const { seen, failure } = await restore(
        { lazy, seed, touches: 50 },
        {},
        storeWith((path) => hurt(path, sql)),
      );
      expect(failure).toMatchObject({ code });
      expect(seen.wrong).toBe(0);
      expect(seen.end).not.toBe("whole");
    }
  });

  const cut = (share: number) => (directory: string) => {
    const path = pageFilePath(directory);
    truncateSync(path, Math.floor(statSync(path).size * share));
  };
  test.each([0, 0.1, 0.3, 0.6, 0.9])(
    "a database truncated to %p of its length: whole or a clear error",
    async (share) => {
      for (const lazy of [true, false]) {
        const before = await restore({ lazy, seed, touches: 50 }, {}, storeWith(cut(share)));
        const during = await restore(
          { lazy, seed, touches: 50 },
          { prefetchMsMax: 0 },
          storeWith(() => {}),
          cut(share),
        );
        for (const { seen, failure } of [before, during]) {
          expect(seen.wrong).toBe(0);
          if (failure === null) expect(seen.end).toBe("whole");
          else {
            expect(failure).toMatchObject({ code: expect.stringMatching(/^storage\./) });
            expect(seen.end).not.toBe("whole");
          }
        }
        if (share < 0.9) expect(before.failure).not.toBeNull();
        if (share < 0.3 && lazy) expect(during.failure).not.toBeNull();
      }
    },
  );

  test("a damaged page that is stored twice is taken from the other place", async () => {
    const directory = storeWith((path) => {
      hurt(path, "INSERT INTO extent SELECT 900, codec, hashes, identities, body FROM extent WHERE n = 3");
      hurt(path, "UPDATE extent SET body = zeroblob(length(body)), codec = 0 WHERE n = 3");
    });
    const { seen, failure } = await restore({ lazy: true, seed }, {}, directory);
    expect(failure).toBeNull();
    expect(seen).toMatchObject({ end: "whole", wrong: 0 });
  });
});
