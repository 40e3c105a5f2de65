// SPDX-License-Identifier: Apache-2.0
/** What a service manager hears: ready once, pings while the checks pass, why not where they do not. And why a box has booted. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BootBook, bootsMax, readBoots } from "#appliance/bootBook.ts";
import { LaneWatch, laneMsMax } from "#appliance/laneWatch.ts";
import { ServiceChain } from "#appliance/serviceChain.ts";
import { ManualClock, systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { type BootFacts, judgeBoot, readBootFacts } from "#monitor/bootReason.ts";
import { readHardwareWatchdog } from "#monitor/health/hardwareWatchdog.ts";
import { fixtureBox } from "#tests/peers/fixtureBox.ts";
import { NotifyListener } from "#tests/peers/notifyListener.ts";

const directories: string[] = [];
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-service-"));
  directories.push(directory);
  return directory;
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function chained(name: string, more: Record<string, string> = {}) {
  const clock = new ManualClock();
  const environment: Record<string, string | undefined> = {
    NOTIFY_SOCKET: name,
    WATCHDOG_USEC: "30000000",
    WATCHDOG_PID: "77",
    ...more,
  };
  let trouble: string | null = null;
  const chain = new ServiceChain({
    ...{ environment, pid: 77, clock, log: silentLog },
    checks: [{ name: "main loop", check: () => trouble }],
  });
  return { chain, clock, environment, set: (text: string | null) => (trouble = text) };
}

for (const kind of ["a file", "an abstract name"]) {
  test(`over ${kind}: ready once, then pings, then the reason why there is none, then stopping`, async () => {
    const name =
      kind === "a file" ? join(scratch(), "notify") : `@holdfast-test-${process.pid}-${systemClock.monotonicNs()}`;
    using manager = new NotifyListener(name);
    const { chain, clock, environment, set } = chained(name);
    expect(environment).toEqual({});
    chain.ready();
    chain.ready();
    expect(manager.heard()).toEqual(["READY=1\nMAINPID=77"]);
    const stop = new AbortController();
    const running = chain.run(stop.signal);
    expect(manager.heard()).toEqual(["WATCHDOG=1"]);
    await clock.advance(30_000);
    expect(manager.heard()).toEqual(["WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    set("held\nfor 9 s");
    await clock.advance(10_000);
    expect(manager.heard()).toEqual(["STATUS=no watchdog ping: main loop: held for 9 s"]);
    expect(chain.wrong).toBe("main loop: held for 9 s");
    set(null);
    await clock.advance(10_000);
    expect(manager.heard()).toEqual(["WATCHDOG=1\nSTATUS=well again"]);
    stop.abort();
    await running;
    chain[Symbol.dispose]();
    expect(manager.heard()).toEqual(["STOPPING=1"]);
  });
}

test("not watched, meant for another process, or no service manager: no pings, and nothing fails", async () => {
  const name = join(scratch(), "notify");
  using manager = new NotifyListener(name);
  for (const more of [{ WATCHDOG_USEC: "" }, { WATCHDOG_USEC: "-5" }, { WATCHDOG_PID: "78" }]) {
    const { chain } = chained(name, more);
    await chain.run(new AbortController().signal);
    expect(manager.heard()).toEqual([]);
  }
  for (const lost of ["", "nonsense", `/${"x".repeat(200)}`, join(scratch(), "nobody")]) {
    const { chain } = chained(lost);
    chain.ready();
    chain.ping();
    chain[Symbol.dispose]();
  }
});

test("the first reason that applies", () => {
  const quiet: BootFacts = { note: null, watchdogStatus: 0, panics: [], boardCause: "power on", endedInOrder: true };
  const judge = (more: Partial<BootFacts>): string => judgeBoot({ ...quiet, ...more }).reason;
  expect(judge({})).toBe("orderly");
  expect(judge({ endedInOrder: null })).toBe("first");
  expect(judge({ endedInOrder: false })).toBe("powerLost");
  expect(judge({ endedInOrder: false, boardCause: "TEGRA_OVER_TEMPERATURE" })).toBe("board");
  expect(judge({ endedInOrder: false, boardCause: "x", panics: ["dmesg-efi-1"] })).toBe("panic");
  expect(judge({ watchdogStatus: 0x20, panics: ["dmesg-efi-1"] })).toBe("watchdog");
  expect(judge({ watchdogStatus: 0x20, note: "update" })).toBe("update");
});

test("what a machine shows", () => {
  const box = fixtureBox({
    "/sys/class/watchdog/watchdog0/bootstatus": "32",
    "/sys/class/watchdog/watchdog0/identity": "i6300ESB timer",
    "/sys/class/watchdog/watchdog0/state": "active",
    "/sys/class/watchdog/watchdog0/timeout": "30",
    "/sys/fs/pstore/dmesg-ramoops-0": "Panic#1",
    "/sys/devices/platform/c360000.pmc/reset_reason": "WATCHDOG",
  });
  expect(readBootFacts(box, null, true)).toEqual({
    ...{ note: null, watchdogStatus: 32, panics: ["dmesg-ramoops-0"], boardCause: "WATCHDOG", endedInOrder: true },
  });
  expect(readHardwareWatchdog(box)).toEqual({
    kind: "seen",
    value: { identity: "i6300ESB timer", active: true, timeoutSeconds: 30 },
  });
  expect(readHardwareWatchdog(fixtureBox({})).kind).toBe("absent");
});

test("each boot once, by its id; the end of the one before is remembered; a torn file begins anew", () => {
  const directory = scratch();
  const told: unknown[] = [];
  const storage = {
    event: (event: string, _: string, facts: unknown) => void told.push([event, (facts as { reason: string }).reason]),
  };
  const boot = (id: string): BootBook =>
    new BootBook(
      directory,
      fixtureBox({ "/proc/sys/kernel/random/boot_id": id }),
      storage,
      new ManualClock(),
      silentLog,
    );
  boot("a");
  boot("a")[Symbol.dispose]();
  boot("b");
  const third = boot("c");
  third.expect("operator");
  boot("d");
  expect(told).toEqual([
    ["boot.reason", "first"],
    ["boot.reason", "orderly"],
    ["boot.reason", "powerLost"],
    ["boot.reason", "operator"],
  ]);
  for (let number = 0; number < 30; number += 1) boot(`n${number}`);
  expect(readBoots(directory)?.boots.length).toBe(bootsMax);
  writeFileSync(join(directory, "boots.json"), '{"boots":[{"bo');
  expect(readBoots(directory)).toBeNull();
  expect(boot("z").boots.map(({ reason }) => reason)).toEqual(["first"]);
});

test("a lane that stays at one stop keeps the pings back; lanes that get on do not, however many stops they have", async () => {
  const clock = new ManualClock();
  const lanes = new LaneWatch(clock);
  const name = join(scratch(), "lanes");
  using manager = new NotifyListener(name);
  const environment = { NOTIFY_SOCKET: name, WATCHDOG_USEC: "30000000" };
  using chain = new ServiceChain({ environment, pid: 77, checks: [lanes.check], clock, log: silentLog });
  for (let stop = 0; stop < 10; stop += 1) {
    using _work = lanes.begin("redis");
    await clock.advance(laneMsMax / 5);
  }
  chain.ping();
  expect(manager.heard()).toEqual(["WATCHDOG=1"]);
  const stuck = lanes.begin("nginx");
  await clock.advance(laneMsMax);
  chain.ping();
  expect(manager.heard()).toEqual([`STATUS=no watchdog ping: lanes: nginx has been at one stop for ${laneMsMax} ms`]);
  stuck[Symbol.dispose]();
  chain.ping();
  expect(manager.heard()).toEqual(["WATCHDOG=1\nSTATUS=well again"]);
});
