// SPDX-License-Identifier: Apache-2.0
/**
 * The look at the real machine: present, absent and forbidden things are all answers.
 */
import { expect, test } from "bun:test";
import { systemBox } from "#board/box.ts";

test("what is there", () => {
  expect(systemBox.text("/proc/sys/kernel/osrelease")).toMatch(/^\d+\./);
  expect(systemBox.exists("/proc/self")).toBe(true);
  expect(systemBox.names("/proc/self")).toContain("status");
  expect(systemBox.open("/dev/null")).toBe("ok");
  expect(systemBox.find("sh")).toStartWith("/");
  expect(systemBox.versionOf(process.execPath)).toMatch(/^\d+\.\d+/);
});

test("what is not there", () => {
  const nowhere = `${import.meta.dir}/nowhere`;
  expect(systemBox.text(nowhere)).toBeNull();
  expect(systemBox.names(nowhere)).toEqual([]);
  expect(systemBox.open(nowhere)).toBe("ENOENT");
  expect(systemBox.find("no-such-program")).toBeNull();
  expect(systemBox.versionOf(nowhere)).toBeNull();
});

test("a folder that is yet to be made is judged by the one above it", () => {
  expect(systemBox.writable("/dev/shm/no/such/folder")).toBe(systemBox.writable("/dev/shm"));
  expect(systemBox.space("/proc/no/such/file")).toEqual(systemBox.space("/proc"));
});
