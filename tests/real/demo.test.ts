// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast demo` as a user runs it: nothing is harmed, the lines keep the contract, and nothing is left behind, also after
 * Ctrl-C.
 */
import { expect } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readGuardLine } from "#appliance/demo/guardEvents.ts";
import { startTicksOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { need, tracing } from "#tests/skip.ts";
import { holdfast } from "./guardedServer.ts";

const timeoutMs = 120_000;
const demo = need("redis-server", "gdbserver", "prlimit", tracing);

type Seen = { readonly code: number | null; readonly lines: readonly string[]; readonly pids: readonly number[] };

/** Runs the demo; `at` sees each line as it comes and may send a signal. */
async function run(words: readonly string[], at?: (line: string, demo: Bun.Subprocess) => void): Promise<Seen> {
  const child = Bun.spawn([...holdfast, "demo", ...words], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const lines: string[] = [];
  const pids: number[] = [];
  let rest = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    const pieces = (rest + chunk).split("\n");
    rest = pieces.pop() ?? "";
    for (const line of pieces) {
      lines.push(line);
      const read = readGuardLine(line);
      // Server and stub, known while they live: both must be gone at the end.
      if (read.kind === "event" && read.event.event === "guarding") pids.push(read.event.pid, tracerOf(read.event.pid));
      at?.(line, child);
    }
  }
  return { code: await child.exited, lines, pids };
}

demo(
  "each crash once, nobody harmed, exit code 0",
  async () => {
    const { code, lines, pids } = await run(["--json"]);
    const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.map(readGuardLine).filter((read) => read.kind === "violation")).toEqual([]);
    const summary = events.find((event) => event.event === "demoSummary");
    expect(summary).toMatchObject({ harmed: null, samePid: true, lost: [] });
    expect(events[0]).toMatchObject({ event: "demoPlan" });
    expect(code).toBe(0);
    expect(pids.filter((pid) => pid > 0).length).toBe(2);
    expect(pids.map(startTicksOf)).toEqual([null, null]);
  },
  timeoutMs,
);

demo(
  "Ctrl-C ends it in order, with the exit code of an interruption",
  async () => {
    const state = await mkdtemp(join(tmpdir(), "holdfast-state-"));
    const interrupt = (line: string, child: Bun.Subprocess): void => {
      if (line.includes('"demoTrigger"')) child.kill("SIGINT");
    };
    const { code, pids } = await run(["--json", "--seconds", "30", "--state", state], interrupt);
    expect(code).toBe(130);
    expect(pids.map(startTicksOf)).toEqual([null, null]);
    await rm(state, { recursive: true, force: true });
  },
  timeoutMs,
);

demo(
  "without a terminal it prints plain lines, the first of which says what will happen",
  async () => {
    const { code, lines } = await run(["--seconds", "3"]);
    expect(lines[0]).toMatch(/^Starts a redis-server of its own under guard on port \d+, .* Nothing else/);
    expect(lines.join("\n")).not.toContain("\x1b");
    expect(lines.join("\n")).toMatch(/Nothing was harmed\.\nCrashes: \d+ of \d+ survived/);
    expect(lines.join("\n")).toContain("guard --pid PID");
    expect(code).toBe(0);
  },
  timeoutMs,
);
