// SPDX-License-Identifier: Apache-2.0
/**
 * Files of processes that are kept open, read beside the plain way of reading them.
 */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { systemBox } from "#board/box.ts";
import { keepingBox } from "#monitor/counters/keepingBox.ts";

const openFiles = (): number => readdirSync("/proc/self/fd").length;

test("reads what is there, each time anew, until its process is gone; leaves nothing open", async () => {
  const before = openFiles();
  const child = Bun.spawn(["sleep", "60"]);
  const path = (name: string): string => `/proc/${child.pid}/${name}`;
  {
    using box = keepingBox(systemBox);
    for (let look = 0; look < 3; look += 1) {
      expect(box.text(path("limits"))).toBe(systemBox.text(path("limits")));
      expect(box.text(path("comm"))).toBe(systemBox.text(path("comm")));
    }
    expect(box.text("/proc/uptime")).toMatch(/^\d/);
    expect(openFiles()).toBeGreaterThanOrEqual(before + 2);
    child.kill();
    await child.exited;
    expect(box.text(path("limits"))).toBeNull();
    expect(box.text(path("no such file"))).toBeNull();
    for (let dots = 0; dots < 400; dots += 1) box.text(`/proc/${process.pid}/${"./".repeat(dots)}comm`);
    expect(openFiles()).toBeLessThan(before + 250);
  }
  expect(openFiles()).toBeLessThanOrEqual(before);
});
