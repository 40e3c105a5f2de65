// SPDX-License-Identifier: Apache-2.0
/**
 * The lane of one workload: its stops, one after the other, until the program ends or the stub is lost.
 *
 * A fault goes down the fault path. Where that fails, the thread is released with its own signal, so that no thread is
 * ever left stopped because bookkeeping failed; a bug of ours also retires the lane. When the program is to be let go,
 * what has stopped by then is worked on first, because a thread that is let go in its fatal stop dies of it.
 */
import { explain, HoldfastError } from "#errors.ts";
import { fatalSignals } from "#fault.ts";
import type { GdbClient, StopEvent } from "#monitor/gdb/client.ts";
import type { Watch } from "#monitor/watch.ts";
import { faultPath } from "./faultPath.ts";
import type { ProgramEnd } from "./guardedProgram.ts";
import type { Workload } from "./workload.ts";

export type LaneEnd =
  | ({ readonly kind: "ended" } & ProgramEnd)
  | { readonly kind: "stubLost"; readonly why: string }
  | { readonly kind: "retired"; readonly why: string }
  | { readonly kind: "letGo" };

/** After the request to let go, a stop that is on its way to us still counts. */
const lastStopMs = 20;

/** `release` lets the program go, and by that ends the stops. */
export async function runLane(
  workload: Workload,
  watch: Watch,
  client: GdbClient,
  letGo: AbortSignal,
  release: () => Promise<void>,
): Promise<LaneEnd> {
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
      working = takeEvent(event, workload, watch, client);
      const end = await working;
      if (end !== null) return end;
    }
    return { kind: "letGo" };
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

async function takeEvent(
  event: StopEvent,
  workload: Workload,
  watch: Watch,
  client: GdbClient,
): Promise<LaneEnd | null> {
  switch (event.kind) {
    case "exited":
      return { kind: "ended", code: event.code, signal: null };
    case "killed":
      return { kind: "ended", code: null, signal: event.signal };
    case "exec":
      watch.replaced();
      return null;
    case "signal":
      return await takeSignal(event, workload, client);
  }
}

async function takeSignal(
  event: Extract<StopEvent, { kind: "signal" }>,
  workload: Workload,
  client: GdbClient,
): Promise<LaneEnd | null> {
  try {
    if (isFatal(event.signal)) await faultPath(workload, event);
    else await client.control(event.tid).deliver();
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

const isFatal = (signal: string): boolean => (fatalSignals as readonly string[]).includes(signal);
