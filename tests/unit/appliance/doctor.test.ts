// SPDX-License-Identifier: Apache-2.0
/**
 * The doctor on boxes made up of a few facts: what each missing thing means, and that what it needs decides `canGuard`.
 */
import { expect, test } from "bun:test";
import { type Diagnosis, diagnose } from "#appliance/doctor.ts";
import type { Box, Space } from "#board/box.ts";
import { diagnosisText } from "#cli/doctor.ts";

type Facts = {
  readonly files?: Readonly<Record<string, string>>;
  readonly programs?: Readonly<Record<string, string>>;
  readonly processor?: string;
  readonly userId?: number;
  readonly devices?: Readonly<Record<string, string>>;
  readonly refused?: string;
  readonly space?: Space | null;
};

const allCapabilities = "CapEff:\t000001ffffffffff";
const disk: Space = { totalBytes: 2 ** 34, freeBytes: 8 * 2 ** 30, inMemory: false };

function box({ files = {}, programs, processor = "x64", userId = 0, devices = {}, refused, space = disk }: Facts): Box {
  const texts: Record<string, string> = {
    "/proc/self/status": userId === 0 ? allCapabilities : "CapEff:\t0000000000000000",
    ...files,
  };
  const found: Readonly<Record<string, string>> = programs ?? { gdbserver: "GNU gdbserver (Debian 13.1-3) 13.1" };
  return {
    processor,
    userId,
    environment: { HOME: "/home/a" },
    text: (path) => texts[path] ?? null,
    exists: (path) => path in texts,
    names: (path) => texts[path]?.split(" ") ?? [],
    open: (path) => devices[path] ?? "ENOENT",
    writable: (path) => (path === refused ? "EACCES" : "ok"),
    space: (path) => (path.startsWith("/run") ? { totalBytes: 1, freeBytes: 1, inMemory: true } : space),
    find: (program) => (program in found ? `/bin/${program}` : null),
    versionOf: (path) => found[path.slice("/bin/".length)] ?? null,
  };
}

function status(diagnosis: Diagnosis, name: string): string {
  const check = diagnosis.checks.find((item) => item.name === name);
  return check === undefined ? "no such check" : `${check.status}: ${check.found}`;
}
const statusOf = (facts: Facts, name: string): string => status(diagnose(box(facts)), name);

test("root with gdbserver 13 and a disk can guard", () => {
  const diagnosis = diagnose(box({}));
  expect(diagnosis.canGuard).toBe(true);
  expect(status(diagnosis, "gdbserver")).toBe("ok: /bin/gdbserver, version 13.1");
  expect(status(diagnosis, "state directory")).toBe("ok: /var/lib/holdfast, 8192 MB free");
});

test.each<[string, Facts]>([
  ["processor", { processor: "riscv64" }],
  ["gdbserver", { programs: {} }],
  ["gdbserver", { programs: { gdbserver: "GNU gdbserver (Debian 10.1-1.7) 10.1.90.20210103-git" } }],
  ["gdbserver", { programs: { gdbserver: "what?" } }],
  ["tracing", { files: { "/proc/sys/kernel/yama/ptrace_scope": "3" } }],
  ["tracing", { userId: 1000, files: { "/proc/sys/kernel/yama/ptrace_scope": "1" } }],
  ["state directory", { refused: "/var/lib/holdfast" }],
])("without %s nothing can be guarded, and it says what to do", (name, facts) => {
  const diagnosis = diagnose(box(facts));
  expect(diagnosis.canGuard).toBe(false);
  expect(status(diagnosis, name)).toStartWith("missing");
  expect(diagnosis.checks.find((check) => check.name === name)?.advice).toBeString();
});

test("gdbserver of newer Debians is told apart from its packaging", () => {
  const programs = { gdbserver: "GNU gdbserver (Debian 16.3-1) 16.3" };
  expect(statusOf({ programs }, "gdbserver")).toBe("ok: /bin/gdbserver, version 16.3");
});

test("a user without Yama in the way guards their own programs", () => {
  const diagnosis = diagnose(box({ userId: 1000, files: { "/proc/sys/kernel/yama/ptrace_scope": "0" } }));
  expect(diagnosis.canGuard).toBe(true);
  expect(status(diagnosis, "tracing")).toBe("limited: user 1000, without CAP_SYS_PTRACE, Yama scope 0");
});

test("space: little, in memory, unknown, and a directory of one's own choice", () => {
  expect(statusOf({ space: { totalBytes: 2 ** 34, freeBytes: 1 << 20, inMemory: false } }, "state directory")).toBe(
    "limited: /var/lib/holdfast, 1 MB free",
  );
  expect(
    statusOf({ space: { totalBytes: 2 ** 34, freeBytes: 1 << 30, inMemory: true } }, "state directory"),
  ).toStartWith("limited");
  expect(statusOf({ space: null }, "state directory")).toStartWith("limited");
  expect(status(diagnose(box({}), "/srv/h"), "state directory")).toStartWith("ok: /srv/h");
});

test("counters: hardware, software or none, and why", () => {
  const sources = "/sys/bus/event_source/devices";
  const paranoid = { "/proc/sys/kernel/perf_event_paranoid": "3" };
  expect(statusOf({ files: { [sources]: "software cpu", ...paranoid } }, "counters")).toBe(
    "ok: hardware (cpu), perf_event_paranoid 3",
  );
  expect(statusOf({ files: { [sources]: "armv8_pmuv3_0 software", ...paranoid } }, "counters")).toStartWith(
    "ok: hardware (armv8",
  );
  expect(statusOf({ files: { [sources]: "software tracepoint", ...paranoid } }, "counters")).toStartWith(
    "limited: software",
  );
  expect(statusOf({ userId: 7, files: { [sources]: "cpu", ...paranoid } }, "counters")).toStartWith(
    "missing: none: perf_event_paranoid 3",
  );
  expect(statusOf({}, "counters")).toStartWith("missing: none: the kernel");
});

test("what guests need is shown apart, and never decides about native programs", () => {
  const programs = { gdbserver: "13.1", "cloud-hypervisor": "cloud-hypervisor v53.0" };
  const rich = diagnose(
    box({
      programs,
      devices: { "/dev/kvm": "ok" },
      files: { "/proc/sys/vm/unprivileged_userfaultfd": "0", "/dev/vhost-vsock": "" },
    }),
  );
  for (const name of ["kvm", "cloud-hypervisor", "userfaultfd", "vsock"]) expect(status(rich, name)).toStartWith("ok");
  expect(statusOf({ programs: { "cloud-hypervisor": "cloud-hypervisor v28.2" } }, "cloud-hypervisor")).toStartWith(
    "limited",
  );
  const poor = diagnose(box({ devices: { "/dev/kvm": "EACCES" } }));
  expect(status(poor, "kvm")).toBe("missing: /dev/kvm: EACCES");
  expect(poor.canGuard).toBe(true);
});

test("every check that is not ok says what it means; the text shows it", () => {
  const diagnosis = diagnose(box({ programs: {}, userId: 1000, space: null }));
  for (const check of diagnosis.checks) expect(check.effect === null).toBe(check.status === "ok");
  const text = diagnosisText(diagnosis);
  expect(text).toContain("no     gdbserver");
  expect(text).toContain("do: apt-get install gdbserver");
  expect(text).toEndWith("that say no.");
});
