// SPDX-License-Identifier: Apache-2.0
/**
 * What writes while the power is cut, and what looks afterwards. Runs inside the lab's machine.
 *
 *     cutLoad.ts load DISK MEMORY EVENT MESSAGE SEED   journal and outbox through Storage, from these numbers on: `LOAD journal N`, `LOAD outbox N`
 *     cutLoad.ts checkpoints DISK MEMORY SEED     checkpoints of a scripted guest, one after the other: `LOAD checkpoint N`
 *     cutLoad.ts check DISK MEMORY JOURNAL OUTBOX CHECKPOINT      `FOUND {…}`, with every broken promise about these
 *     cutLoad.ts disks DISK MEMORY DEVICE:JOURNAL:OUTBOX:CHECKPOINT…     the same of each device, mounted at DISK in turn
 *
 * DISK is the folder that survives, MEMORY one that does not. A line of LOAD is printed once all up to its number has been acknowledged as durable.
 */
import { mkdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { silentLog } from "#log.ts";
import { CheckpointTaking } from "#restoration/takeCheckpoint.ts";
import { verifyCheckpoint } from "#restoration/verifyCheckpoint.ts";
import { openReadOnly } from "#storage/database.ts";
import { defaultLimits } from "#storage/limits.ts";
import { readLane } from "#storage/outboxReader.ts";
import { PageFile } from "#storage/pageFile.ts";
import { Storage } from "#storage/storage.ts";
import { checkContent, pathOf } from "#storage/storedFile.ts";
import { examine } from "#tests/crash/storageDeath.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

const rowsEach = 20;
const messagesEach = 5;
const bodyBytes = 300;
const messagesMax = 1_000_000;
const conditions = { atMs: 0, freeBytes: 2 ** 40, afterError: false, damage: null };

const say = (line: string): void => void writeSync(1, `${line}\n`);
const [mode, directory = "", runDirectory = "", ...numbers] = process.argv.slice(2);
const places = { directory: join(directory, "state"), runDirectory };

async function load(firstEvent: number, firstMessage: number, seed: number): Promise<never> {
  const random = seededRandom(seed);
  await using storage = await Storage.open({ ...places, clock: systemClock, log: silentLog });
  let event = firstEvent - 1;
  let message = firstMessage - 1;
  const journal = async (): Promise<never> => {
    for (;;) {
      for (let count = 0; count < rowsEach; count += 1) {
        event += 1;
        storage.event("count", "w", { number: event, padding: "x".repeat(Math.floor(random() * 200)) });
      }
      const id = storage.nextFaultId();
      storage.intent(sampleReport(id), sampleDecision(id));
      storage.report(sampleReport(id), samplePlan, sampleDecision(id));
      storage.outcome(sampleOutcome(id));
      await storage.flush();
      say(`LOAD journal ${event}`);
    }
  };
  const outbox = async (): Promise<never> => {
    for (;;) {
      for (let count = 0; count < messagesEach; count += 1) {
        message += 1;
        const body = new Uint8Array(bodyBytes).fill(message % 256);
        const row = { kind: "message", id: `m${message}`, class: "fault", topic: "t", retained: false } as const;
        storage.outbox({ ...row, atMs: systemClock.wallMs(), body, head: "{}" });
      }
      await storage.flush(undefined, "outbox");
      say(`LOAD outbox ${message}`);
    }
  };
  return (await Promise.all([journal(), outbox()]))[0];
}

async function checkpoints(seed: number): Promise<never> {
  const random = seededRandom(seed);
  using file = openPages();
  for (let number = newest(file) + 1; ; number += 1) {
    const socket = join(runDirectory, `out-${number}.sock`);
    const script = { form: random() < 0.5 ? "files" : "stream", seed: 1, generation: number } as const;
    const peer = join(import.meta.dir, "../../tests/peers/migrationSender.ts");
    const sender = Bun.spawn([process.execPath, peer, socket, JSON.stringify(script)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const method = script.form === "files" ? "memoryFile" : "stream";
    const order = { id: `c${number}`, guest: "g", atMs: number, build: "v53.0", method, socket } as const;
    const more = { hypervisorPid: sender.pid, owner: null, disks: [], cloneDirectory: directory, heldMsMax: 600_000 };
    {
      using taking = new CheckpointTaking({ ...order, ...more }, file);
      taking.connect();
      taking.receive(() => {});
      taking.seal();
    }
    say(`LOAD checkpoint ${number}`);
    await sender.exited;
  }
}

function openPages(): PageFile {
  mkdirSync(join(directory, "pages"), { recursive: true });
  return PageFile.open(join(directory, "pages"), conditions, defaultLimits);
}

const newest = (file: PageFile): number => Math.max(0, ...file.reader.checkpoints.map(({ id }) => Number(id.slice(1))));

async function check(journal: number, outbox: number, checkpoint: number): Promise<void> {
  const { last, broken } = await examine(places, journal);
  const state = places.directory;
  const messages = readLane(state, "event", 0, messagesMax);
  const bad = messages.findIndex(
    ({ id, body }, index) => id !== `m${index + 1}` || body.length !== bodyBytes || body[0] !== (index + 1) % 256,
  );
  if (bad >= 0) broken.push(`place ${bad + 1} of the outbox holds ${messages[bad]!.id}`);
  if (messages.length < outbox) broken.push(`${messages.length} of ${outbox} acknowledged messages are there`);
  {
    using database = openReadOnly(pathOf(state, "outbox"));
    broken.push(...checkContent(database, "integrity_check").map((line) => `outbox: ${line}`));
  }
  using pages = openPages();
  const found = new Set(pages.reader.checkpoints.map(({ id }) => id));
  for (let number = 1; number <= checkpoint; number += 1) {
    if (!found.has(`c${number}`)) broken.push(`checkpoint c${number} was acknowledged and is not there`);
  }
  for (const id of found) broken.push(...verifyCheckpoint(pages.reader, id).problems.map((line) => `${id}: ${line}`));
  say(`FOUND ${JSON.stringify({ journal: last, outbox: messages.length, checkpoints: found.size, broken })}`);
}

/** Also the file system, before and after: what the kernel mends at the mount, and what a look at it finds then. */
async function checkDisk(words: string): Promise<void> {
  const [device = "", ...counts] = words.split(":");
  const [journal = 0, outbox = 0, checkpoint = 0] = counts.map(Number);
  const broken: string[] = [];
  const tool = (...command: string[]): boolean => {
    const { success, stdout, stderr } = Bun.spawnSync(command);
    if (!success) broken.push(`${command.join(" ")}: ${stderr.toString().trim() || stdout.toString().trim()}`);
    return success;
  };
  rmSync(runDirectory, { recursive: true, force: true });
  mkdirSync(runDirectory);
  if (tool("mount", "-t", "xfs", "-o", "noatime", device, directory)) {
    await check(journal, outbox, checkpoint).catch((error: unknown) => broken.push(explain(error)));
    if (tool("umount", directory)) tool("xfs_repair", "-n", device);
  }
  if (broken.length > 0) say(`FOUND ${JSON.stringify({ journal: 0, outbox: 0, checkpoints: 0, broken })}`);
  say(`CHECKED ${device}`);
}

const [first = 0, second = 0, third = 0] = numbers.map(Number);
if (mode === "load") await load(first, second, third);
else if (mode === "checkpoints") await checkpoints(first);
else if (mode === "disks") for (const words of numbers) await checkDisk(words);
else await check(first, second, third);
