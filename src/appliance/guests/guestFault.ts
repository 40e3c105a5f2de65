// SPDX-License-Identifier: Apache-2.0
/**
 * What can go wrong with a guest as a whole, and how it shows. Gets events of the hypervisor and lines of the serial
 * console; gives a GuestFault. Pure.
 *
 * Source: the messages of Linux 6.1 (`kernel/panic.c`, `mm/oom_kill.c`, `kernel/watchdog.c`), which have not changed in
 * ten years; pvpanic as in Documentation/misc-devices of QEMU and Cloud Hypervisor v53.0.
 */
import { HypervisorError } from "#errors.ts";
import type { ExitReport } from "#vm/exitReport.ts";
import type { MonitorEvent } from "#vm/monitorEvent.ts";

export type GuestFaultKind =
  /** Its kernel has given up. */
  | "panic"
  /** It runs, and serves nobody: probes fail. */
  | "hang"
  /** Its kernel killed a process for lack of memory. The guest goes on; its probes judge. */
  | "outOfMemory"
  /** It started itself anew: a reboot, a triple fault, or its watchdog. */
  | "selfReset"
  /** It powered itself off. */
  | "powerOff"
  /** Cloud Hypervisor is gone: killed, crashed, refused to go on. */
  | "hypervisorEnded"
  /** Cloud Hypervisor does not answer. */
  | "hypervisorSilent"
  /** It could not be started. */
  | "startFailed";

export type GuestFault = {
  readonly kind: GuestFaultKind;
  /** In words, with whatever was seen. */
  readonly why: string;
};

const textMax = 200;

/** What a line of the console says of the guest's health, or null. */
export function faultOfLine(line: string): GuestFault | null {
  const panic = /Kernel panic - not syncing: (.*)/.exec(line);
  if (panic !== null) return { kind: "panic", why: `kernel panic: ${panic[1]!.slice(0, textMax)}` };
  const killed = /Out of memory: Killed process (\d+) \(([^)]*)\)/.exec(line);
  if (killed !== null) {
    return { kind: "outOfMemory", why: `the guest ran out of memory and killed ${killed[2]} (process ${killed[1]})` };
  }
  return null;
}

/** What an event says of the guest's health, or null. A crash kernel that takes over will reset the guest by itself. */
export function faultOfEvent(event: MonitorEvent): GuestFault | null {
  if (event.kind !== "guest.panic" || event.what === "crash_loaded") return null;
  return { kind: "panic", why: "kernel panic, told through pvpanic" };
}

export function faultOfExit(report: ExitReport): GuestFault {
  return { kind: report.kind === "powerOff" ? "powerOff" : "hypervisorEnded", why: report.why };
}

/** Trying again would end the same way until somebody changes something on this box. */
export const isFinal = (error: unknown): boolean =>
  error instanceof HypervisorError &&
  ["hypervisor.kvm", "hypervisor.notFound", "hypervisor.unsupported", "hypervisor.network"].includes(error.code);
