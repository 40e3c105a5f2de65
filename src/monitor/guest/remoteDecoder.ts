// SPDX-License-Identifier: Apache-2.0
/**
 * Reports on a thread of a program inside a guest, from memory that is fetched as it is asked for. Gets what is known of the
 * stop and of the program; gives the report. Memory is true while the thread is stopped, and forgotten before the next stop.
 *
 * The stack comes first, in large pieces: it says which objects there are to look at, each by itself.
 */
import type { Architecture, VirtualAddress } from "#fault.ts";
import { evidenceOf } from "../connectionEvidence.ts";
import { decodeFault, type ProgramKnowledge, type StopFacts, type UnsitedReport } from "../faultDecoder.ts";
import type { ReachLimits } from "../reach.ts";
import { objectReach, type ReadPages, RemoteView } from "./remoteView.ts";

/** Each object may lie in a page of its own, and each page is fetched. */
const reachLimits: ReachLimits = { near: 48, far: 96 };

export class RemoteDecoder {
  readonly view: RemoteView;
  readonly #objects: RemoteView;

  constructor(pid: number, architecture: Architecture, readPages: ReadPages) {
    this.view = new RemoteView(pid, architecture, readPages);
    this.#objects = new RemoteView(pid, architecture, readPages, objectReach);
  }

  forget(): void {
    this.view.forget();
    this.#objects.forget();
  }

  /** @throws GdbError */
  async decode(facts: StopFacts, known: Omit<ProgramKnowledge, "view" | "sessions">): Promise<UnsitedReport> {
    const read = (from: VirtualAddress, bytes: number): Uint8Array => this.#objects.readMemory(from, bytes);
    const sessions: ProgramKnowledge["sessions"] = {
      evidence: (connections, work) => evidenceOf(connections, work, read, reachLimits),
    };
    const decode = (): UnsitedReport => decodeFault(facts, { ...known, view: this.view, sessions });
    const report = await this.view.settle(decode);
    return facts.connections.sockets.length === 0 ? report : await this.#objects.settle(decode);
  }
}
