// SPDX-License-Identifier: Apache-2.0
/**
 * Why the kernel does not count an event, in words, with the setting that would allow it. Gets an errno and a box. Pure but
 * for the box. Source: perf_event_open(2), "ERRORS"; Documentation/admin-guide/perf-security.rst.
 */
import type { Box } from "#board/box.ts";
import { type Absent, absent, type CounterEvent } from "#health.ts";

const [permission, noEntry, noProcess, access, busy, noDevice, invalid, tooMany, noSpace, noCall, unsupported] = [
  1, 2, 3, 13, 16, 19, 22, 24, 28, 38, 95,
];

export function refusalOf(event: CounterEvent, errno: number, box: Box): Absent {
  switch (errno) {
    case permission:
    case access: {
      const level = box.text("/proc/sys/kernel/perf_event_paranoid") ?? "?";
      const wanted = event === "kvm_exits" ? -1 : 1;
      return absent(
        `not permitted: kernel.perf_event_paranoid is ${level}`,
        `CAP_PERFMON, or sysctl kernel.perf_event_paranoid=${wanted}`,
      );
    }
    case noEntry:
    case noDevice:
    case unsupported:
    case invalid:
      return absent(`the processor's PMU does not count ${event} (errno ${errno})`);
    case noProcess:
      return absent("the thread is gone");
    case tooMany:
      return absent("too many descriptors are open", "raise LimitNOFILE of the service (ulimit -n)");
    case busy:
    case noSpace:
      return absent("all counters of the PMU are taken by somebody else");
    case noCall:
      return absent("this kernel has no perf events", "a kernel with CONFIG_PERF_EVENTS");
    default:
      return absent(`the kernel refuses ${event} with errno ${errno}`);
  }
}

/** Whether leaving out the kernel's part may help. */
export const isPermission = (errno: number): boolean => errno === permission || errno === access;

/** Events that happen inside the kernel only: without its part they would be 0, which is not true. */
export const needsKernel: ReadonlySet<CounterEvent> = new Set<CounterEvent>([
  "context_switches",
  "migrations",
  "kvm_exits",
]);
