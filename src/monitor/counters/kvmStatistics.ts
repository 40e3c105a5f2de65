// SPDX-License-Identifier: Apache-2.0
/**
 * Exits of a guest's virtual processors by reason, as KVM counts them itself. Gets a box and the hypervisor's pid; gives
 * totals by name, or why there are none. Source: debugfs, `kvm/TID-FD/` by the thread that made the virtual machine, which is
 * not the first one of Cloud Hypervisor; Documentation/virt/kvm/api.rst, 4.135.
 */
import type { Box } from "#board/box.ts";
import { absent, type CounterReading, type Seen, seen } from "#health.ts";

const folder = "/sys/kernel/debug/kvm";
/** `exits`, `io_exits`, `wfi_exit_stat`, `mmio_exit_user` … */
const isExit = /(^|_)exits?($|_)/;

export function readExits(box: Box, pid: number): Seen<Readonly<Record<string, number>>> {
  const makers = new Set([`${pid}`, ...box.names(`/proc/${pid}/task`)]);
  const virtual = box.names(folder).filter((name) => makers.has(name.slice(0, name.indexOf("-"))));
  if (virtual.length === 0) {
    return box.names(folder).length === 0
      ? absent("the statistics of KVM cannot be read", "mount debugfs at /sys/kernel/debug, and run as root")
      : absent(`process ${pid} has no virtual machine of KVM`);
  }
  const totals: Record<string, number> = {};
  for (const name of virtual) {
    for (const file of box.names(`${folder}/${name}`).filter((each) => isExit.test(each))) {
      const value = Number(box.text(`${folder}/${name}/${file}`) ?? Number.NaN);
      if (Number.isFinite(value)) totals[file] = (totals[file] ?? 0) + value;
    }
  }
  if (Object.keys(totals).length > 0) return seen(totals);
  return absent(
    "the kernel shows the statistics of KVM, and refuses to have them read",
    "a kernel that is not locked down",
  );
}

/** Processor time of virtual processors without a single exit, s: longer than any runs. */
const deadSeconds = 1;

/** A kernel may list the tracepoint and never pass it, as KVM without support by the processor does: that is no 0. */
export function withoutDeadExits(readings: readonly CounterReading[], processorSeconds: number): CounterReading[] {
  const isDead = ({ event, total }: CounterReading): boolean =>
    event === "kvm_exits" && total === 0 && processorSeconds > deadSeconds;
  return readings.map((reading) => (isDead(reading) ? { ...reading, total: null } : reading));
}

/** Threads that run virtual processors, by the names that Cloud Hypervisor and QEMU give them. */
export const isVirtualProcessor = (threadName: string): boolean => /^(vcpu\d+|CPU \d+\/KVM)$/.test(threadName);
