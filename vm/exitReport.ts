// SPDX-License-Identifier: Apache-2.0
/**
 * Why a process of Cloud Hypervisor ended. Gets its exit status, its last events and the end of its log; gives a kind
 * and a sentence. Pure.
 *
 * The status is not known where an earlier supervisor started it: then events and log decide. Source: exits provoked on
 * v53.0 (power-off, SIGTERM, SIGKILL, bad kernel, seccomp).
 */
import type { MonitorEvent } from "./monitorEvent.ts";

export type ExitEvidence = {
  /** null: not our child, so nobody told us. */
  readonly status: { readonly code: number | null; readonly signal: string | null } | null;
  readonly events: readonly MonitorEvent[];
  readonly logTail: string;
  /** We told it to end. */
  readonly asked: boolean;
};

export type ExitReport = {
  /** `ordered`: we asked. `powerOff`: the guest powered off, or somebody sent SIGTERM. The rest is trouble. */
  readonly kind: "ordered" | "powerOff" | "killed" | "seccomp" | "panicked" | "failed" | "unknown";
  readonly why: string;
  readonly status: ExitEvidence["status"];
};

/** What the last of these says is what the VM was when its process ended: one may be deleted before another boots. */
const endKinds: readonly string[] = ["vmm.shutdown", "vm.deleted"];
const lifeKinds: readonly string[] = [
  ...endKinds,
  "vm.booting",
  "vm.booted",
  "vm.rebooted",
  "vm.restored",
  "vm.resumed",
];
const linesMax = 12;

export function explainExit(evidence: ExitEvidence): ExitReport {
  const { status, asked } = evidence;
  const report = (kind: ExitReport["kind"], why: string): ExitReport => ({ kind, why, status });
  if (asked) return report("ordered", "it was told to end");
  const panic = panicIn(evidence.logTail);
  if (status?.signal === "SIGSYS" || /seccomp|bad system call/i.test(evidence.logTail)) {
    return report("seccomp", "its seccomp filter stopped a system call it does not allow");
  }
  if (panic !== null) return report("panicked", `Cloud Hypervisor itself panicked: ${panic}`);
  if (status?.signal === "SIGKILL") {
    return report(
      "killed",
      "killed with SIGKILL: by somebody, or by the kernel for lack of memory (see the kernel log)",
    );
  }
  if (status?.signal) return report("killed", `ended by ${status.signal}`);
  const vcpu = vcpuErrorIn(evidence.logTail);
  if (vcpu !== null) return report("failed", `a virtual processor failed: ${vcpu}`);
  const chain = chainIn(evidence.logTail);
  if (chain.length > 0) return report("failed", chain.join(": "));
  if (status !== null && status.code !== 0) return report("failed", `exit code ${status.code}, without a message`);
  const endedInOrder = endKinds.includes(evidence.events.findLast(({ kind }) => lifeKinds.includes(kind))?.kind ?? "");
  if (endedInOrder || status !== null)
    return report("powerOff", "the guest powered off, or a SIGTERM ended it in order");
  return report("unknown", "it vanished without a word: killed, or the kernel ran out of memory");
}

function panicIn(log: string): string | null {
  const lines = log.split("\n");
  const at = lines.findLastIndex((line) => line.includes(" panicked at "));
  if (at < 0) return null;
  const place = /panicked at (.*?):?$/.exec(lines[at]!)?.[1] ?? "";
  return `${lines[at + 1]?.trim() ?? ""} at ${place}`.trim();
}

/** The kernel's KVM gave a virtual processor up; the process then ends in order, with code 0. */
function vcpuErrorIn(log: string): string | null {
  const at = log.lastIndexOf("VCPU generated error: ");
  if (at < 0) return null;
  const text = log.slice(at).split("\n").slice(0, linesMax).join(" ");
  return (/Caused by:\s*(.*?)\)?\s*$/.exec(text)?.[1] ?? text.slice("VCPU generated error: ".length))
    .trim()
    .slice(0, 200);
}

/** The numbered lines below "chain of errors", outermost first. */
function chainIn(log: string): string[] {
  const lines = log.split("\n");
  const at = lines.findLastIndex((line) => line.includes("chain of errors"));
  if (at < 0) return [];
  const chain: string[] = [];
  for (const line of lines.slice(at + 1, at + 1 + linesMax)) {
    const message = /^\s*\d+: (.*)$/.exec(line)?.[1];
    if (message === undefined) break;
    chain.push(message);
  }
  return chain;
}
