// SPDX-License-Identifier: Apache-2.0
/**
 * Why a process can, or could not, be attached to, in words that say what to do.
 *
 * Gets the files of `/proc` where the stub runs; gives facts before the attach and the error after a refused one, which
 * from gdbserver is a bare E01. Source: proc(5), ptrace(2), and Documentation/admin-guide/LSM/Yama.rst of Linux.
 */
import { GdbError } from "#errors.ts";

/** What `/proc` says of a process, as far as it decides on an attach. */
export type TraceFacts = {
  readonly name: string;
  readonly uid: number;
  /** The stub's own user. */
  readonly stubUid: number;
  /** 0 classic, 1 descendants only, 2 administrators only, 3 nobody; null where the kernel has no Yama. */
  readonly ptraceScope: number | null;
};

type ReadFile = (path: string) => Promise<Uint8Array | null>;

/** @throws GdbError "gdb.gone" where there is no such process, "gdb.busy" where another tracer has it */
export async function checkTraceable(pid: number, readFile: ReadFile): Promise<TraceFacts> {
  const read = async (path: string): Promise<string> => Buffer.from((await readFile(path)) ?? "").toString("latin1");
  const status = await read(`/proc/${pid}/status`);
  const name = field(status, "Name");
  const state = field(status, "State");
  if (state === "" || "ZX".includes(state[0]!)) {
    throw new GdbError("gdb.gone", `there is no running process ${pid}${state === "" ? "" : `: ${name} has ended`}`, {
      pid,
    });
  }
  const tracer = Number(field(status, "TracerPid"));
  if (tracer > 0) {
    const tracerName = field(await read(`/proc/${tracer}/status`), "Name") || "outside this container";
    const advice = "a process has one tracer at most; end that one, or detach it";
    throw new GdbError("gdb.busy", `${name} (${pid}) is already traced by ${tracerName} (${tracer}): ${advice}`, {
      pid,
      tracer,
    });
  }
  const scope = (await read("/proc/sys/kernel/yama/ptrace_scope")).trim();
  return {
    name,
    uid: Number.parseInt(field(status, "Uid"), 10),
    stubUid: Number.parseInt(field(await read("/proc/self/status"), "Uid"), 10),
    ptraceScope: scope === "" ? null : Number(scope),
  };
}

const field = (status: string, name: string): string =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(status)?.[1] ?? "";

/** The error for an attach that the stub refused. */
export function attachRefusal(pid: number, facts: TraceFacts, reply: string): GdbError {
  const { name, uid, stubUid, ptraceScope } = facts;
  const context = { pid, uid, stubUid, ptraceScope, reply };
  const fail = (code: "gdb.permission" | "gdb.attach", why: string): GdbError =>
    new GdbError(code, `gdbserver may not trace ${name} (${pid}): ${why}`, context);
  if (ptraceScope === 3) {
    return fail(
      "gdb.permission",
      "kernel.yama.ptrace_scope is 3, which forbids tracing until the next boot with another value",
    );
  }
  if (stubUid !== 0 && uid !== stubUid)
    return fail("gdb.permission", `it runs as user ${uid}; run as that user or as root`);
  if (stubUid !== 0 && ptraceScope !== null && ptraceScope > 0) {
    return fail("gdb.permission", `kernel.yama.ptrace_scope is ${ptraceScope}; run as root, or set it to 0`);
  }
  if (stubUid !== 0) return fail("gdb.permission", "the kernel refused; run as root");
  return fail(
    "gdb.attach",
    "the kernel refused even root: a kernel thread, a process that has just ended, or a container without CAP_SYS_PTRACE",
  );
}
