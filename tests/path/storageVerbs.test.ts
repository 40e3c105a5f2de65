// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast storage …` as a person calls it, on directories that a supervisor is writing to, that are damaged, or empty.
 */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import type { FaultId } from "#fault.ts";
import { silentLog } from "#log.ts";
import { readFault } from "#storage/journalReader.ts";
import { guardDirectory } from "#storage/ownership.ts";
import { Storage } from "#storage/storage.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

setDefaultTimeout(60_000);

let scratch = "";
let memory = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-verbs-"));
  memory = memoryScratch("verbs");
});
afterEach(() => {
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

const state = (): string => join(scratch, "state");
const runDirectory = (): string => join(memory, "run");
const open = (): Promise<Storage> =>
  Storage.open({
    directory: guardDirectory(state(), "redis"),
    runDirectory: runDirectory(),
    clock: systemClock,
    log: silentLog,
  });

async function writeFault(storage: Storage): Promise<FaultId> {
  const id = storage.nextFaultId();
  storage.intent(sampleReport(id), sampleDecision(id));
  storage.report(sampleReport(id), samplePlan, sampleDecision(id));
  storage.outcome(sampleOutcome(id));
  storage.learn("site", { value: -1 });
  await storage.flush();
  return id;
}

/** The verb in a process of its own, so that locks are real. */
async function storageVerb(...words: string[]): Promise<{ code: number; out: string; complaint: string }> {
  const script = `
    import { run } from "./src/cli/program.ts";
    import { addStorage } from "./src/cli/storage.ts";
    const code = await run(process.argv.slice(1), [{ name: "storage", summary: "", add: async (program) => addStorage(program) }]);
    if (code !== 0) process.exit(code);`;
  const child = Bun.spawn([process.execPath, "-e", script, "storage", ...words, "--state", state()], {
    cwd: join(import.meta.dir, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, complaint] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, complaint };
}

test("status tells who writes and what it says of itself, or that nobody does", async () => {
  expect((await storageVerb("status")).out).toStartWith("Nothing is kept");
  {
    await using storage = await open();
    await writeFault(storage);
    const { code, out } = await storageVerb("status", "--run", runDirectory());
    expect(code).toBe(0);
    expect(out).toContain(`redis: supervisor ${process.pid}, ${storage.state().kind}`);
    expect(out).toMatch(/journal .* readable/);
  }
  const { out } = await storageVerb("status", "--json");
  expect(JSON.parse(out)).toMatchObject({ guard: "redis", holder: null, state: null });
});

test("verify passes a whole directory, names a damaged file, and finds a flipped bit inside a body", async () => {
  let id: FaultId;
  {
    await using storage = await open();
    id = await writeFault(storage);
    expect((await storageVerb("verify", "--full")).code).toBe(0);
  }
  const path = join(guardDirectory(state(), "redis"), "journal.db");
  const whole = readFileSync(path);
  const bytes = Buffer.from(whole);
  const body = bytes.indexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
  bytes[body + 1]! ^= 1;
  writeFileSync(path, bytes);
  const flipped = await storageVerb("verify");
  expect(flipped.code).toBe(1);
  expect(flipped.out).toContain(`(${id}) is damaged`);
  writeFileSync(path, whole.subarray(0, 6000));
  const cut = await storageVerb("verify", "--name", "redis");
  expect(cut.code).toBe(1);
  expect(cut.out).toContain("DAMAGED");
});

test("a backup made while in use brings everything back, sets aside what is there, and needs the directory for itself", async () => {
  const target = join(scratch, "backup");
  let id: FaultId;
  {
    await using storage = await open();
    id = await writeFault(storage);
    expect((await storageVerb("backup", target)).code).toBe(0);
    expect((await storageVerb("backup", target)).complaint).toContain("is there already");
    const busy = await storageVerb("restore", target);
    expect(busy.code).toBe(75);
    expect(busy.complaint).toContain(`process ${process.pid}`);
    await writeFault(storage);
  }
  const { code, out } = await storageVerb("restore", target);
  expect(code).toBe(0);
  expect(out).toContain("checked");
  expect(existsSync(join(guardDirectory(state(), "redis"), "quarantine"))).toBe(true);
  expect(readFault(state(), id).trials).toHaveLength(1);
  await using storage = await open();
  expect(storage.history.map(({ trial }) => trial)).toEqual([sampleDecision(id).trial]);
  expect(storage.learned.get("site")).toEqual({ value: -1 });
});

test("bad words and a damaged backup are refused, and nothing is replaced", async () => {
  {
    await using storage = await open();
    await writeFault(storage);
  }
  const path = join(guardDirectory(state(), "redis"), "journal.db");
  const before = readFileSync(path);
  expect((await storageVerb("verify", "--name", "nobody")).code).toBe(66);
  expect((await storageVerb("status", "--name", "../x")).code).toBe(2);
  expect((await storageVerb("restore", join(scratch, "nowhere"))).code).toBe(66);
  const target = join(scratch, "backup");
  await storageVerb("backup", target);
  const copy = join(guardDirectory(target, "redis"), "journal.db");
  writeFileSync(copy, readFileSync(copy).fill(0xee, 4096, 8192));
  const damaged = await storageVerb("restore", target);
  expect(damaged.code).toBe(74);
  expect(damaged.complaint).toContain("damaged");
  expect(readFileSync(path).equals(before)).toBe(true);
});
