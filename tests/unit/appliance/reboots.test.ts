// SPDX-License-Identifier: Apache-2.0
/**
 * A restart of the box that was asked for: the note of its reason, the job across the restart, and what is left where the
 * service manager refuses.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BootBook, readBoots } from "#appliance/bootBook.ts";
import { boxRestartBy } from "#appliance/boxRestart.ts";
import { Reboots } from "#appliance/uplink/reboots.ts";
import { type Box, systemBox } from "#board/box.ts";
import { ManualClock } from "#clock.ts";
import { NativeError } from "#errors.ts";
import { silentLog } from "#log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-reboots-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const clock = new ManualClock();
const quiet = { event: () => {} };
const boxOf = (boot: string): Box => ({
  ...systemBox,
  text: (path) => (path.endsWith("boot_id") ? boot : null),
  names: () => [],
});
const bookOf = (boot: string): BootBook => new BootBook(folder, boxOf(boot), quiet, clock, silentLog);
/** What a storage keeps over a restart. */
const learnedIn = (kept: Map<string, object>) => ({
  learned: kept,
  learn: (name: string, value: object | null) => void (value === null ? kept.delete(name) : kept.set(name, value)),
});

test("the next start knows whose wish it was, and the job has succeeded", async () => {
  const kept = new Map<string, object>();
  const storage = learnedIn(kept);
  {
    using boots = bookOf("one");
    expect(boots.newest.reason).toBe("first");
    const done = join(folder, "rebooted");
    const restart = boxRestartBy(boots, { flush: async () => {} }, clock, ["sh", "-c", `echo yes > ${done}`]);
    const { order, settle } = asked(new Reboots(storage, "one", restart, 0));
    await order("job-1");
    expect(await Bun.file(done).text()).toBe("yes\n");
    expect(settle()).toEqual([]);
  }
  using boots = bookOf("two");
  expect(boots.newest).toMatchObject({ boot: "two", reason: "operator" });
  const { settle } = asked(new Reboots(storage, "two", null, 0));
  expect(settle()).toEqual(["job-1 succeeded"]);
  expect(kept.size).toBe(0);
  using third = bookOf("three");
  expect(third.newest.reason).not.toBe("operator");
});

test("a service manager that refuses leaves no note behind; nor does one that is not there", async () => {
  for (const command of [["sh", "-c", "echo not now >&2; exit 1"], ["/nonexistent/systemctl"]]) {
    const kept = new Map<string, object>();
    using boots = bookOf("one");
    const restart = boxRestartBy(
      boots,
      { flush: () => Promise.reject(new NativeError("native.call", "ill")) },
      clock,
      command,
    );
    const { order } = asked(new Reboots(learnedIn(kept), "one", restart, 0));
    await expect(order("job-2")).rejects.toThrow(NativeError);
    expect(kept.size).toBe(0);
    expect(readBoots(folder)?.note).toBeNull();
  }
});

test("a guard of one program restarts no machine; an ordinary user's supervisor neither", () => {
  const storage = learnedIn(new Map());
  expect(new Reboots(storage, "one", null, 0).order).toMatchObject({ why: expect.stringContaining("one program") });
  expect(new Reboots(storage, "one", async () => {}, 1000).order).toMatchObject({
    why: expect.stringContaining("not root"),
  });
});

test("the setup of a flashed box says why it has reset", () => {
  for (const [word, reason] of [
    ["factoryReset\n", "factoryReset"],
    ["nonsense", "first"],
  ] as const) {
    rmSync(join(folder, "boots.json"), { force: true });
    writeFileSync(join(folder, "note"), word);
    using boots = bookOf("one");
    expect(boots.newest.reason).toBe(reason);
    using again = bookOf("two");
    expect(again.newest.reason).not.toBe("factoryReset");
  }
});

function asked(reboots: Reboots) {
  const { order } = reboots;
  if (typeof order !== "function") return { order: async () => {}, settle: () => settled(reboots) };
  return { order, settle: () => settled(reboots) };
}

function settled(reboots: Reboots): string[] {
  const ends: string[] = [];
  reboots.settle(async (job, { kind }) => void ends.push(`${job} ${kind}`));
  return ends;
}
