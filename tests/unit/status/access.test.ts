// SPDX-License-Identifier: Apache-2.0
/** Who may use the page: the claim, accounts, logins, rates. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "#clock.ts";
import { Accounts } from "#status/access/accounts.ts";
import { Claim } from "#status/access/claim.ts";
import { Limiter, Tries } from "#status/access/limiter.ts";
import { Logins } from "#status/access/logins.ts";
import { limits } from "#status/settings.ts";

function scratch(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), "holdfast-page-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

test("a claim code works once, as people type it, and not after a day", async () => {
  using directory = scratch();
  const clock = new ManualClock();
  const claim = new Claim(directory.path, clock);
  expect(claim.isOpen).toBe(false);
  const code = claim.open();
  expect(code).toMatch(/^[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$/);
  expect(claim.use("AAAAA-AAAAA")).toBe(false);
  expect(claim.use(` ${code.toLowerCase().replace("-", " ")}`)).toBe(true);
  expect(claim.use(code)).toBe(false);
  const second = claim.open();
  await clock.advance(limits.claimMs + 1);
  expect(claim.use(second)).toBe(false);
});

test("a claim file opens the window, and is gone once it was read", () => {
  using directory = scratch();
  const claim = new Claim(directory.path, new ManualClock());
  writeFileSync(join(directory.path, "claim"), "short\n");
  expect(claim.isOpen).toBe(false);
  writeFileSync(join(directory.path, "claim"), "my-own-code-1\n");
  expect(claim.isOpen).toBe(true);
  expect(claim.use("MY OWN CODE I")).toBe(true);
  expect(claim.isOpen).toBe(false);
});

test("accounts survive a restart, in a file of their owner; the last admin stays", async () => {
  using directory = scratch();
  const accounts = new Accounts(directory.path);
  expect(accounts.claimed).toBe(false);
  await accounts.put("anna", "admin", "long enough word");
  expect(await accounts.verify("anna", "long enough word")).toEqual({ name: "anna", role: "admin" });
  expect(await accounts.verify("anna", "Long enough word")).toBeNull();
  expect(await accounts.verify("nobody", "long enough word")).toBeNull();
  expect(() => accounts.remove("anna")).toThrow("last admin");
  expect(accounts.put("anna", "view", "long enough word")).rejects.toThrow("last admin");
  expect(accounts.put("bert", "view", "short")).rejects.toThrow("characters");
  expect(accounts.put("bert", "view", "bertbertbert")).rejects.toThrow("name");
  const again = new Accounts(directory.path);
  expect(again.claimed).toBe(true);
  expect(statSync(join(directory.path, "accounts.json")).mode & 0o777).toBe(0o600);
  const secret = again.grant("ci", "view", 1_000);
  expect(again.findToken(secret, 999)?.label).toBe("ci");
  expect(again.findToken(secret, 1_000)).toBeNull();
  expect(again.findToken(`${secret.slice(0, -1)}_`, 0)).toBeNull();
});

test("a damaged file of accounts lets nobody in and is not written over", () => {
  using directory = scratch();
  writeFileSync(join(directory.path, "accounts.json"), "{");
  expect(() => new Accounts(directory.path)).toThrow("cannot be read");
});

test("a login ends when idle, after twelve hours, and with its account", async () => {
  using directory = scratch();
  const clock = new ManualClock();
  const logins = new Logins(directory.path, clock, 60_000);
  const secret = logins.begin("anna", "admin", "::1");
  expect(logins.find(`${secret}x`)).toBeNull();
  for (let hour = 0; hour < 11; hour += 1) {
    for (let minute = 0; minute < 60; minute += 1) {
      await clock.advance(59_000);
      logins.touch(logins.find(secret)!);
    }
  }
  await clock.advance(61_000);
  expect(logins.find(secret)).toBeNull();
  const other = logins.begin("anna", "admin", "::1");
  logins.endOf("anna");
  expect(logins.find(other)).toBeNull();
  for (let count = 0; count < limits.loginsMax + 10; count += 1) logins.begin("anna", "view", "::1");
  expect(logins.list.length).toBe(limits.loginsMax);
});

test("a login goes on after a restart, but not as one that gave its password just now", async () => {
  using directory = scratch();
  const clock = new ManualClock();
  const before = new Logins(directory.path, clock, 60_000);
  const secret = before.begin("anna", "admin", "::1");
  expect(before.isFresh(before.find(secret)!)).toBe(true);
  await clock.advance(30_000);
  const after = new Logins(directory.path, clock, 60_000);
  expect(after.find(secret)?.name).toBe("anna");
  expect(after.isFresh(after.find(secret)!)).toBe(false);
  expect(statSync(join(directory.path, "logins.json")).mode & 0o777).toBe(0o600);
  await clock.advance(31_000);
  expect(new Logins(directory.path, clock, 60_000).find(secret)).toBeNull();
  writeFileSync(join(directory.path, "logins.json"), "[{");
  expect(new Logins(directory.path, clock, 60_000).find(secret)).toBeNull();
});

test("rates refill, and wrong passwords are counted by address and in all", async () => {
  const clock = new ManualClock();
  const limiter = new Limiter(clock, 10, 3);
  expect([1, 2, 3, 4].map(() => limiter.allow("a"))).toEqual([true, true, true, false]);
  expect(limiter.allow("b")).toBe(true);
  await clock.advance(100);
  expect(limiter.allow("a")).toBe(true);
  const tries = new Tries(clock);
  for (let count = 0; count < limits.loginTriesPerAddress; count += 1) tries.wrong("a");
  expect(tries.waitSeconds("a")).toBeGreaterThan(800);
  expect(tries.waitSeconds("b")).toBe(0);
  for (let count = 0; count < limits.loginTriesInAll; count += 1) tries.wrong(`x${count}`);
  expect(tries.waitSeconds("b")).toBeGreaterThan(0);
  await clock.advance(limits.loginWindowMs + 1_000);
  expect(tries.waitSeconds("a")).toBe(0);
});
