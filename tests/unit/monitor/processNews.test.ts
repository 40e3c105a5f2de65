// SPDX-License-Identifier: Apache-2.0
/**
 * News of processes, and children read from a file that is kept open, on this machine.
 */
import { expect, test } from "bun:test";
import { ManualClock } from "#clock.ts";
import { OwnChildren, readDescendants } from "#monitor/descendants.ts";
import { KeptFile } from "#monitor/keptFile.ts";
import { ProcessNews } from "#monitor/processNews.ts";

test("a process that was made is news", async () => {
  const clock = new ManualClock();
  const news = new ProcessNews(clock);
  expect(news.any()).toBe(true);
  await Bun.spawn(["true"]).exited;
  await clock.advance(1_000);
  expect(news.any()).toBe(true);
});

test("children come and go", async () => {
  using children = new OwnChildren(process.pid);
  const child = Bun.spawn(["sleep", "60"]);
  expect(children.read()).toContain(child.pid);
  expect(readDescendants(process.pid, true, 64)).toContain(child.pid);
  child.kill();
  await child.exited;
  expect(children.read()).not.toContain(child.pid);
});

test("a file of a process that is gone is read as nothing, as is one that never was", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  using stat = new KeptFile(`/proc/${child.pid}/stat`);
  expect(stat.read()).toStartWith(`${child.pid} (`);
  child.kill();
  await child.exited;
  expect(stat.read()).toBeNull();
  using none = new KeptFile("/proc/self/no such file");
  expect(none.read()).toBeNull();
});
