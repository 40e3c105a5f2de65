// SPDX-License-Identifier: Apache-2.0
/**
 * Taking a checkpoint from a scripted sender that speaks the real bytes: in both forms, and broken off or garbled at every
 * step. Whatever happens, the sender is declined or has hung up, earlier checkpoints stay whole, and nothing half is seen.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeHead } from "#restoration/checkpointHead.ts";
import { LazyMap } from "#restoration/lazyMap.ts";
import { type CheckpointOrder, CheckpointTaking } from "#restoration/takeCheckpoint.ts";
import { verifyCheckpoint } from "#restoration/verifyCheckpoint.ts";
import { defaultLimits } from "#storage/limits.ts";
import { PageFile } from "#storage/pageFile.ts";
import { contentOf, pageCount } from "#tests/peers/migration.ts";
import type { SenderScript } from "#tests/peers/migrationSender.ts";
import { need, root } from "#tests/skip.ts";

const top = mkdtempSync(join(tmpdir(), "checkpoint-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
const conditions = { atMs: 0, freeBytes: 2 ** 40, afterError: false, damage: null };
let places = 0;

function fresh(): { directory: string; file: PageFile } {
  places += 1;
  const directory = join(top, `${places}`);
  mkdirSync(directory);
  return { directory, file: PageFile.open(directory, conditions, defaultLimits) };
}

/** Runs one checkpoint to its end; gives how the sender was answered. */
async function take(
  file: PageFile,
  directory: string,
  id: string,
  script: SenderScript,
  pid?: number,
): Promise<string> {
  const socket = join(directory, "out.sock");
  const peer = join(import.meta.dir, "../peers/migrationSender.ts");
  const sender = Bun.spawn([process.execPath, peer, socket, JSON.stringify(script)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const order: CheckpointOrder = {
    id,
    guest: "g",
    atMs: places * 1_000 + Number(id.slice(1)),
    build: "v53.0",
    method: script.form === "files" ? "memoryFile" : "stream",
    socket,
    hypervisorPid: pid ?? sender.pid,
    owner: null,
    disks: [],
    cloneDirectory: directory,
    heldMsMax: 60_000,
  };
  try {
    using taking = new CheckpointTaking(order, file);
    taking.connect();
    taking.receive(() => {});
    taking.seal();
  } finally {
    await sender.exited;
  }
  return (JSON.parse(await sender.stdout.text()) as { last: string }).last;
}

function checkContent(file: PageFile, id: string, seed: number, generation: number): void {
  const map = new LazyMap(file.reader, id);
  for (let page = 0; page < pageCount; page += 1) {
    const location = map.location(page);
    const wanted = contentOf(page, seed, generation);
    const found = location === 0 ? new Uint8Array(wanted.length) : map.content(location);
    if (Buffer.compare(found, wanted) !== 0) expect(`page ${page} of ${id}`).toBe("as it was sent");
  }
}

const extentsOf = (file: PageFile): number => [...file.reader.headers(1e6)].length;

describe("a checkpoint", () => {
  for (const form of ["files", "stream"] as const) {
    test(`${form}: every page as it was sent, the second one adds what changed`, async () => {
      const { directory, file } = fresh();
      expect(await take(file, directory, "c1", { form, seed: 1 })).toBe("error");
      checkContent(file, "c1", 1, 0);
      expect(await take(file, directory, "c2", { form, seed: 1, generation: 1 })).toBe("error");
      checkContent(file, "c1", 1, 0);
      checkContent(file, "c2", 1, 1);
      const { pages } = decodeHead("c2", file.reader.checkpoint("c2")!.head);
      const changed = Array.from({ length: pageCount }, (_, page) => page).filter(
        (page) => page % 10 === 5 && page % 3 === 2,
      );
      expect(pages.added).toBe(changed.length);
      expect(verifyCheckpoint(file.reader, "c2")).toMatchObject({ problems: [] });
      // Nothing changed: not a page is added, and every chunk is shared.
      await take(file, directory, "c3", { form, seed: 1, generation: 1 });
      expect(decodeHead("c3", file.reader.checkpoint("c3")!.head).pages.added).toBe(0);
      file[Symbol.dispose]();
    });

    const steps = form === "files" ? ["memoryFd"] : ["memory"];
    for (const step of ["start", ...steps, "config", "state", "complete"]) {
      test(`${form}: the sender hangs up before and in ${step}`, async () => {
        const { directory, file } = fresh();
        await take(file, directory, "c1", { form, seed: 2 });
        const before = extentsOf(file);
        for (const how of ["hangUpBefore", "hangUpIn"] as const) {
          // A message without a payload has no middle: that one is answered, or the next one misses.
          const bare = how === "hangUpIn" && (step === "start" || step === "complete");
          const taken = take(file, directory, "c2", { form, seed: 3, [how]: step });
          if (bare && step === "complete") await taken;
          else await expect(taken).rejects.toMatchObject({ code: "hypervisor.peerClosed" });
          if (bare && step === "complete") file.drop("c2");
          while (file.sweep());
          expect(file.reader.checkpoints.map(({ id }) => id)).toEqual(["c1"]);
          expect(extentsOf(file)).toBe(before);
          checkContent(file, "c1", 2, 0);
        }
        file[Symbol.dispose]();
      });
    }
  }

  const garbled: [string, SenderScript][] = [
    ["an unknown command", { form: "files", seed: 4, garble: { step: "config", how: "command" } }],
    ["a length that cannot be", { form: "files", seed: 4, garble: { step: "state", how: "length" } }],
    ["a memory table of many pages", { form: "stream", seed: 4, garble: { step: "memory", how: "length" } }],
    ["a range outside the memory", { form: "stream", seed: 4, garble: { step: "memory", how: "range" } }],
    ["no descriptor", { form: "files", seed: 4, garble: { step: "memoryFd", how: "noDescriptor" } }],
    ["regions that make no sense", { form: "files", seed: 4, garble: { step: "config", how: "config" } }],
  ];
  test.each(garbled)("%s is refused", async (_, script) => {
    const { directory, file } = fresh();
    await expect(take(file, directory, "c1", script)).rejects.toMatchObject({ code: "hypervisor.protocol" });
    expect(file.reader.checkpoints).toEqual([]);
    file[Symbol.dispose]();
  });

  test("a guest whose memory never settles goes on without a checkpoint", async () => {
    const { directory, file } = fresh();
    const taken = take(file, directory, "c1", { form: "stream", seed: 5, rounds: 1_000 });
    await expect(taken).rejects.toMatchObject({ code: "hypervisor.noConvergence" });
    expect(file.reader.checkpoints).toEqual([]);
    expect(await take(file, directory, "c2", { form: "stream", seed: 5, rounds: 3 })).toBe("error");
    checkContent(file, "c2", 5, 0);
    file[Symbol.dispose]();
  });

  test("another process than Cloud Hypervisor is refused", async () => {
    const { directory, file } = fresh();
    const taken = take(file, directory, "c1", { form: "files", seed: 5 }, 1);
    await expect(taken).rejects.toMatchObject({ code: "hypervisor.protocol", context: { expected: 1 } });
    file[Symbol.dispose]();
  });

  test("a queue that no driver has set up is named, and nothing is kept", async () => {
    const { directory, file } = fresh();
    const taken = take(file, directory, "c1", { form: "files", seed: 6, usedRing: 2 ** 41 });
    await expect(taken).rejects.toMatchObject({
      code: "hypervisor.queueNotReady",
      context: { device: "_rng0", queue: 0 },
    });
    expect(file.reader.checkpoints).toEqual([]);
    file[Symbol.dispose]();
  });

  need(root)(
    "a disk that becomes full is told, and what was there before stays",
    async () => {
      const directory = join(top, "full");
      mkdirSync(directory);
      expect(Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=5m,mode=0700", "none", directory]).exitCode).toBe(0);
      try {
        const file = PageFile.open(directory, conditions, defaultLimits);
        await take(file, directory, "c1", { form: "files", seed: 7 });
        let failure: unknown = null;
        for (let n = 2; failure === null && n < 20; n += 1) {
          await take(file, directory, `c${n}`, { form: "files", seed: 100 * n }).catch((error) => {
            failure = error;
          });
        }
        expect(failure).toMatchObject({ code: "storage.full" });
        checkContent(file, "c1", 7, 0);
        file[Symbol.dispose]();
      } finally {
        Bun.spawnSync(["umount", "-l", directory]);
      }
    },
    60_000,
  );
});
