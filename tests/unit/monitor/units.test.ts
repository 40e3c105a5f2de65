// SPDX-License-Identifier: Apache-2.0
/** A service's processes, read from control groups as systemd lays them out. */
import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findControlGroup, readUnit } from "#monitor/units.ts";

/** Control groups by path, with the processes in each. */
function groups(tree: Readonly<Record<string, readonly number[]>>): Disposable & { root: string } {
  const root = mkdtempSync(join(tmpdir(), "holdfast-cgroup-"));
  writeFileSync(join(root, "cgroup.controllers"), "cpu memory\n");
  for (const [path, pids] of Object.entries(tree)) {
    mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, path, "cgroup.procs"), pids.map((pid) => `${pid}\n`).join(""));
  }
  return { root, [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) };
}

const nobody = (): null => null;

test("a service in the system slice, with the groups it has made itself", async () => {
  await using child = spawnIdle();
  using tree = groups({ "system.slice/web.service": [process.pid], "system.slice/web.service/workers": [child.pid] });
  expect(readUnit("web.service", nobody, tree.root)).toEqual({ mainPid: process.pid, pids: [process.pid, child.pid] });
  expect(readUnit("wab.service", nobody, tree.root)).toBeNull();
});

test("an instance of a template, a user's service, and one that does not run", () => {
  using tree = groups({
    "system.slice/system-postgresql.slice/postgresql@15-main.service": [process.pid],
    "user.slice/user-1000.slice/user@1000.service/app.slice/own.service": [process.pid],
    "system.slice/idle.service": [],
  });
  expect(findControlGroup("postgresql@15-main.service", tree.root)).toEndWith(
    "system-postgresql.slice/postgresql@15-main.service",
  );
  expect(readUnit("own.service", nobody, tree.root)?.mainPid).toBe(process.pid);
  expect(readUnit("idle.service", nobody, tree.root)).toBeNull();
});

test("several processes that nobody of the unit has started: systemd knows, else the oldest", async () => {
  await using one = spawnIdle();
  await using two = spawnIdle();
  using tree = groups({ "system.slice/many.service": [two.pid, one.pid] });
  expect(readUnit("many.service", () => two.pid, tree.root)?.mainPid).toBe(two.pid);
  expect(readUnit("many.service", nobody, tree.root)?.mainPid).toBe(one.pid);
  // What systemd says must be one of them.
  expect(readUnit("many.service", () => 1, tree.root)?.mainPid).toBe(one.pid);
});

function spawnIdle(): AsyncDisposable & { pid: number } {
  const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}
