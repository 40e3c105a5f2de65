// SPDX-License-Identifier: Apache-2.0
/**
 * The lane of one workload: its stops, one after the other, until the program ends or the stub is lost.
 *
 * A fault goes down the fault path. Where that fails, the thread is released with its own signal, so that no thread is
 * ever left stopped because bookkeeping failed; a bug of ours also retires the lane. When the program is to be let go,
 * what has stopped by then is worked on first, because a thread that is let go in its fatal stop dies of it.
 */
import { explain, HoldfastError } from "#errors.ts";
import { isFatal, type VirtualAddress } from "#fault.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";
import { isExecTrap } from "./execTrap.ts";
import { faultPath } from "./faultPath.ts";
import type { ProgramEnd } from "./guardedProgram.ts";
import type { Nursery } from "./nursery.ts";
import type { Workload } from "./workload.ts";

export type LaneEnd =
  | ({ readonly kind: "ended" } & ProgramEnd)
  | { readonly kind: "stubLost"; readonly why: string }
  | { readonly kind: "retired"; readonly why: string }
  /** The program has replaced itself by another one, and runs. */
  | { readonly kind: "replaced" }
  | { readonly kind: "letGo" };

/** After the request to let go, a stop that is on its way to us still counts. */
const lastStopMs = 20;

export type LaneOptions = {
  readonly pid: number;
  readonly workload: Workload;
  readonly client: GdbClient;
  /** Further processes that the stub holds; left out where it holds none. */
  readonly nursery?: Pick<Nursery, "born" | "take" | "workloadOf"> | undefined;
  /** The registers by which an act is finished that an earlier supervisor has left in this very stop. */
  readonly unfinished: (stop: Signalled) => ReadonlyMap<number, bigint> | null;
  readonly letGo: AbortSignal;
  /** Lets the program go, and by that ends the stops. */
  readonly release: () => Promise<void>;
};

type Signalled = Extract<StopEvent, { kind: "signal" }> & { readonly loop?: VirtualAddress };

export async function runLane(options: LaneOptions): Promise<LaneEnd> {
  const { workload, client, letGo, release } = options;
  const beganNs = workload.clock.monotonicNs();
  let working: Promise<LaneEnd | null> = Promise.resolve(null);
  const releaseWhenIdle = async (): Promise<void> => {
    await workload.clock.sleep(lastStopMs);
    for (let seen: unknown = null; seen !== working; ) {
      seen = working;
      await working;
    }
    await release();
  };
  const asked = (): void => void releaseWhenIdle().catch((error) => tellFailedRelease(workload, error));
  if (letGo.aborted) asked();
  letGo.addEventListener("abort", asked, { once: true });
  try {
    for await (const event of client.stops()) {
      working = takeEvent(event, options, beganNs);
      const end = await working;
      if (end !== null) return end;
    }
    return letGo.aborted
      ? { kind: "letGo" }
      : { kind: "stubLost", why: "it did not answer, or kept the end to itself" };
  } catch (error) {
    return { kind: "stubLost", why: explain(error) };
  } finally {
    letGo.removeEventListener("abort", asked);
  }
}

function tellFailedRelease({ storage, name, notices }: Workload, error: unknown): void {
  const why = explain(error);
  storage.event("guard.letGoFailed", name, { why });
  notices.tell({ event: "warning", workload: name, text: `letting go of ${name} failed: ${why}` });
}

async function takeEvent(event: StopEvent, options: LaneOptions, beganNs: number): Promise<LaneEnd | null> {
  const { pid, nursery } = options;
  if (event.kind === "forked") {
    nursery?.born(event.child);
    return null;
  }
  if (event.pid !== pid && event.kind !== "signal" && event.kind !== "hung") {
    nursery?.take(event);
    return null;
  }
  switch (event.kind) {
    case "exited":
      return { kind: "ended", code: event.code, signal: null };
    case "killed":
      return { kind: "ended", code: null, signal: event.signal };
    case "exec":
      return { kind: "replaced" };
    case "signal":
      return await takeSignal(event, options, beganNs);
    case "hung":
      return await takeSignal({ ...event, kind: "signal", signal: "SIGSTOP" }, options, beganNs);
  }
}

async function takeSignal(
  event: Signalled,
  { pid, workload, client, unfinished, nursery }: LaneOptions,
  beganNs: number,
): Promise<LaneEnd | null> {
  using _stopped = workload.storage.holdUpkeep();
  using _working = workload.working?.();
  try {
    const registers = unfinished(event);
    if (registers !== null) {
      const control = client.control(event.tid);
      await control.writeRegisters(registers);
      await (isFatal(event.signal) ? control.resume() : control.deliver());
    } else if (await isExecTrap(event, (event.atNs - beganNs) / 1e6, client)) {
      workload.storage.event("lane.execTrap", workload.name, { tid: event.tid });
      await client.control(event.tid).resume();
    } else if (isFatal(event.signal) || event.loop !== undefined) {
      await faultPath(event.pid === pid ? workload : (nursery?.workloadOf(event.pid) ?? workload), event);
    } else await client.control(event.tid).deliver();
    return null;
  } catch (error) {
    await release(event.tid, client);
    const why = explain(error);
    workload.storage.event("lane.error", workload.name, { tid: event.tid, signal: event.signal, why });
    workload.notices.tell({
      event: "warning",
      workload: workload.name,
      text: `a fault could not be worked on: ${why}`,
    });
    const operating = error instanceof HoldfastError && error.code !== "bug";
    return operating ? null : { kind: "retired", why };
  }
}

/** Lets the thread have its signal, whatever went wrong before. */
async function release(tid: number, client: GdbClient): Promise<void> {
  try {
    await client.control(tid).deliver();
  } catch {
    // It runs already, or the stub is gone and the kernel has delivered the signal: either way it is not stopped.
  }
}
