// SPDX-License-Identifier: Apache-2.0
/**
 * Versions, refusals, exits and run directories: what is read off Cloud Hypervisor and its traces, as pure functions.
 */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { explain, HypervisorError } from "#errors.ts";
import { explainExit } from "#vm/exitReport.ts";
import type { MonitorEvent } from "#vm/monitorEvent.ts";
import { routes } from "#vm/restCalls.ts";
import { refusal } from "#vm/restClient.ts";
import { RunDirectory } from "#vm/runDirectory.ts";
import { LineSplitter, lineCharactersMax } from "#vm/serialConsole.ts";
import { demand, lacks, versionOf } from "#vm/version.ts";

const ping = (version: string, buildVersion: string | null) => ({ version, buildVersion, pid: 1, features: [] });

function thrown(body: () => unknown): HypervisorError {
  try {
    body();
  } catch (error) {
    if (error instanceof HypervisorError) return error;
    throw error;
  }
  throw new HypervisorError("hypervisor.message", "nothing was thrown");
}

describe("version", () => {
  test("known, unlisted, later", () => {
    expect(versionOf(ping("53.0.0", "v53.0"))).toEqual({ release: 53, kind: "known", name: "v53.0" });
    expect(versionOf(ping("52.0.0", "v52.0")).kind).toBe("known");
    expect(versionOf(ping("53.0.0", "v53.0-12-gabc")).kind).toBe("unlisted");
    expect(versionOf(ping("54.0.0", "v54.0")).kind).toBe("later");
    expect(versionOf(ping("53.0.0", null)).kind).toBe("unlisted");
  });
  test("too old, or no version at all, is refused", () => {
    expect(thrown(() => versionOf(ping("51.2.0", "v51.2"))).code).toBe("hypervisor.unsupported");
    for (const version of ["", "v53", "x.y", "-1.0"]) {
      expect(thrown(() => versionOf(ping(version, null))).code).toBe("hypervisor.versionUnknown");
    }
  });
  test("what a version lacks is named", () => {
    const old = versionOf(ping("52.0.0", "v52.0"));
    expect(lacks(old, "memoryMode")).toBe("v52.0 lacks the memory mode of a migration, which came with v53.0");
    expect(lacks(old, "onDemandRestore")).toBeNull();
    expect(lacks(versionOf(ping("54.0.0", "v54.0")), "memoryMode")).toContain("no longer has");
    expect(thrown(() => demand(old, "reserve")).code).toBe("hypervisor.unsupported");
  });
});

describe("refusals", () => {
  const chain = ["Error from API", "The VM could not boot", "VM is already created"];
  test("Cloud Hypervisor's chain becomes the causes, outermost first", () => {
    const error = refusal("vm.boot", 500, JSON.stringify(chain));
    expect(error.chain).toEqual(chain);
    expect(explain(error).split("\n")).toHaveLength(4);
    expect(explain(error)).toContain("because VM is already created");
  });
  test("whatever else comes is one message; nothing is no message", () => {
    expect(refusal("vm.boot", 500, "plain\ntext").chain).toEqual(["plain text"]);
    expect(refusal("vm.boot", 500, "").chain).toEqual([]);
    expect(refusal("vm.boot", 500, JSON.stringify(Array(1000).fill("x"))).chain.length).toBeLessThan(20);
  });
  test("answers of the wrong kind are typed errors", () => {
    for (const body of [null, [], 7, {}, { version: 1, pid: 2 }, { version: "53.0.0", pid: "2" }]) {
      expect(thrown(() => routes["vmm.ping"].read(body, "vmm.ping")).code).toBe("hypervisor.message");
    }
    for (const body of [{ state: "Odd", config: {}, memory_actual_size: 1 }, { state: "Running" }]) {
      expect(thrown(() => routes["vm.info"].read(body, "vm.info")).code).toBe("hypervisor.message");
    }
    expect(routes["vm.counters"].read({ net: { rx: 3 } }, "vm.counters")).toEqual({ net: { rx: 3 } });
    expect(routes["vm.add-disk"].read(undefined, "vm.add-disk")).toBeUndefined();
  });
});

describe("exits", () => {
  const plain = { status: { code: 0, signal: null }, events: [], logTail: "", asked: false };
  test("each way to end has its own words", () => {
    expect(explainExit({ ...plain, asked: true }).kind).toBe("ordered");
    expect(explainExit(plain).kind).toBe("powerOff");
    expect(explainExit({ ...plain, status: { code: null, signal: "SIGKILL" } }).kind).toBe("killed");
    expect(explainExit({ ...plain, status: { code: null, signal: "SIGSYS" } }).kind).toBe("seccomp");
    expect(explainExit({ ...plain, status: null }).kind).toBe("unknown");
    expect(explainExit({ ...plain, status: null, events: [{ kind: "vmm.shutdown", sinceStartMs: 1 }] }).kind).toBe(
      "powerOff",
    );
    // Deleted once, because Landlock did not work, and booted then: its end is no power-off.
    const deletedFirst = ["vm.deleted", "vm.booted"].map((kind) => ({ kind, sinceStartMs: 1 }) as MonitorEvent);
    expect(explainExit({ ...plain, status: null, events: deletedFirst }).kind).toBe("unknown");
    expect(explainExit({ ...plain, status: { code: 1, signal: null } }).why).toContain("exit code 1");
  });
  test("the chain of its last error is quoted", () => {
    const logTail =
      "noise\nError: Cloud Hypervisor exited with the following chain of errors:\n  0: Error booting VM\n  1: No kernel\n";
    const report = explainExit({ ...plain, status: { code: 1, signal: null }, logTail });
    expect(report).toMatchObject({ kind: "failed", why: "Error booting VM: No kernel" });
  });
  test("a virtual processor that failed is no power-off, though the code is 0", () => {
    const logTail =
      "<vcpu0> ERROR:vmm/src/cpu.rs:1460 -- VCPU generated error: VcpuRun(Failed to run vcpu\n\nCaused by:\n    Unexpected exit reason on vcpu run: InternalError)\n";
    const report = explainExit({ ...plain, logTail });
    expect(report.kind).toBe("failed");
    expect(report.why).toBe("a virtual processor failed: Unexpected exit reason on vcpu run: InternalError");
  });
  test("a panic is quoted with its place", () => {
    const logTail = "thread 'vmm' panicked at vmm/src/vm.rs:12:3:\nindex out of bounds\n";
    const report = explainExit({ ...plain, status: { code: 101, signal: null }, logTail });
    expect(report.why).toBe("Cloud Hypervisor itself panicked: index out of bounds at vmm/src/vm.rs:12:3");
  });
});

describe("run directory", () => {
  test("a path too long for its sockets is refused", () => {
    expect(thrown(() => new RunDirectory(`/run/${"x".repeat(100)}`)).code).toBe("hypervisor.socket");
    expect(new RunDirectory("/run/holdfast/guests/web").apiSocket).toBe("/run/holdfast/guests/web/api.sock");
  });

  test("a process in another seat becomes the guest: the guest's names lead to it, until the next one starts", () => {
    const path = mkdtempSync(join(tmpdir(), "run-directory-"));
    try {
      const own = new RunDirectory(path);
      const seat = own.at(3);
      expect([seat.vsockSocket, basename(seat.apiSocket), own.taken]).toEqual([own.vsockSocket, "api-3.sock", 0]);
      for (const each of [own.log, own.events, seat.apiSocket, own.vsockSocket]) writeFileSync(each, "");
      writeFileSync(seat.log, "its log");
      writeFileSync(seat.events, "its events");
      own.give(3);
      expect(own.taken).toBe(3);
      expect([own.log, own.events].map((each) => readFileSync(each, "utf8"))).toEqual(["its log", "its events"]);
      // The other seat's remains are its own.
      own.at(4).removeSockets();
      own.at(4).removeTraces();
      expect(own.taken).toBe(3);
      own.removeSockets();
      own.removeTraces();
      expect(readdirSync(path)).toEqual([]);
    } finally {
      rmSync(path, { recursive: true });
    }
  });
});

describe("serial lines", () => {
  test("split anywhere, without control sequences", () => {
    const text = "\u001b[1mone\u001b[0m\r\ntwo\nthree\n";
    for (let at = 0; at <= text.length; at += 1) {
      const splitter = new LineSplitter();
      const lines = [...splitter.push(text.slice(0, at)), ...splitter.push(text.slice(at))];
      expect(lines).toEqual(["one", "two", "three"]);
    }
  });
  test("a line without an end is bounded", () => {
    const splitter = new LineSplitter();
    splitter.push("y".repeat(10 * lineCharactersMax));
    expect(splitter.push("\n")[0]!.length).toBeLessThanOrEqual(lineCharactersMax);
  });
});
