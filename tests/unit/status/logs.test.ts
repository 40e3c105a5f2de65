// SPDX-License-Identifier: Apache-2.0
/**
 * Log lines of the init system: what is asked for is what is passed on, as words of their own; secrets are taken out; a file
 * of them is oldest first. The journal is a script that answers with the words that it was given.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { logFilter, logText, readLogs } from "#status/model/logs.ts";

const script = `#!/bin/sh
line() { printf '{"__REALTIME_TIMESTAMP":"%s","PRIORITY":"%s","_SYSTEMD_UNIT":"shop.service","MESSAGE":"%s"}\\n' "$1" "$2" "$3"; }
line 1700000002000000 3 "words $*"
line 1700000001000000 6 "login with password=hunter2 <script>"
echo 'half a line {'
`;

let folder = "";
const read = (asked: Parameters<typeof logFilter>[0]) =>
  readLogs(logFilter(asked), 7_200_000, join(folder, "journalctl"));
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-logs-"));
  writeFileSync(join(folder, "journalctl"), script);
  chmodSync(join(folder, "journalctl"), 0o755);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("unit, level, since and until are passed on as words; lines that are none are left out", async () => {
  const asked = { unit: "shop.service", level: "4", since: "60", until: "10" };
  const { known, lines } = await read(asked);
  expect(known).toBe(true);
  expect(lines.map(({ level, unit, atMs }) => ({ level, unit, atMs }))).toEqual([
    { level: 3, unit: "shop.service", atMs: 1_700_000_002_000 },
    { level: 6, unit: "shop.service", atMs: 1_700_000_001_000 },
  ]);
  expect(lines[0]!.text).toContain("--since=@3600 --until=@6600 --priority=4 --unit=shop.service");
  expect(lines[1]!.text).toBe("login with password=[redacted] <script>");
});

test("ours and the kernel's without a unit; text filters; a file is oldest first", async () => {
  const [own] = (await read({})).lines;
  expect(own!.text).toContain("--since=@3600 --priority=6 --unit=holdfast*");
  const [kernel] = (await read({ unit: "kernel" })).lines;
  expect(kernel!.text).toContain("--priority=6 --dmesg");
  const some = await read({ text: "LOGIN" });
  expect(some.lines).toHaveLength(1);
  const all = await read({});
  expect(logText(all).split("\n")[0]).toBe(
    "2023-11-14T22:13:21.000Z info shop.service login with password=[redacted] <script>",
  );
});
