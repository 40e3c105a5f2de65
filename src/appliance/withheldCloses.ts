// SPDX-License-Identifier: Apache-2.0
/**
 * Slows down who comes to kill, again and again: from the third cut of one origin on, its client does not see the close for a
 * growing time, because a duplicate of its socket is held open here. Gets each act before it is done; the program itself has
 * let go of the connection as ever.
 *
 *     cut 1, 2 ─▶ closed at once      cut 3 ─▶ after 1 s      cut 4 ─▶ 2 s   …   cut 12 and later ─▶ 5 min
 *
 * An origin is an address without its port, or all unix sockets. Only connections that were cut are held: others of the
 * same address go on untouched. Limits: 256 held, the oldest is closed first; 1,024 origins, forgotten after 10 minutes of
 * peace. A client that closes by itself is let go at the next look.
 */
import { ForeignDescriptors, type HeldDescriptor } from "#board/native/foreignDescriptors.ts";
import { type Clock, sleepToBeat } from "#clock.ts";
import { NativeError } from "#errors.ts";
import type { Decision, FaultReport } from "#fault.ts";
import type { Storage } from "#storage/storage.ts";
import { aborted, type TaskGroup } from "#tasks.ts";

const freeCuts = 2;
const firstMs = 1000;
const withheldMsMax = 300_000;
const peaceMs = 600_000;
const lookMs = 250;
const heldMax = 256;
const originsMax = 1024;

type Held = { readonly socket: HeldDescriptor; readonly dueNs: number };
type Origin = { cuts: number; lastNs: number };

export type WithheldParts = {
  readonly clock: Clock;
  /** A duplicate of a descriptor of the program; null where there is none. */
  readonly hold: (fd: number) => HeldDescriptor | null;
  readonly told: (peer: string, withheldMs: number) => void;
};

export class WithheldCloses implements Disposable {
  readonly #origins = new Map<string, Origin>();
  #held: Held[] = [];
  /** Resolves once something is held. */
  #first = Promise.withResolvers<void>();

  constructor(private readonly parts: WithheldParts) {}

  /** Connections held open now. */
  get count(): number {
    return this.#held.length;
  }

  /** True where the next cut may be one whose close is withheld: its connection must then leave the program's multiplexers. */
  get mayHold(): boolean {
    return this.#origins.values().some((origin) => origin.cuts >= freeCuts && this.#isRecent(origin));
  }

  /** Before the act: afterwards the descriptor is another one. */
  before(
    report: Pick<FaultReport, "connectionsShared" | "multiplexers">,
    { cut, session }: Pick<Decision, "cut" | "session">,
  ): void {
    if (!cut || session === null) return;
    const withheldMs = withheldFor(this.#count(originOf(session.peer)));
    // Where processes share a connection it is shut down, which its client sees whoever holds it. And one that stayed in a
    // multiplexer would go on to tell of events of a session that the program has freed.
    if (withheldMs === 0 || report.connectionsShared || report.multiplexers === null) return;
    const socket = this.parts.hold(session.fd);
    if (socket === null) return;
    if (this.#held.length >= heldMax) this.#held.shift()?.socket[Symbol.dispose]();
    this.#held.push({ socket, dueNs: this.parts.clock.monotonicNs() + withheldMs * 1e6 });
    this.#first.resolve();
    this.parts.told(session.peer, withheldMs);
  }

  /** Lets go of what is due until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#held.length === 0) {
        this.#first = Promise.withResolvers();
        await Promise.race([this.#first.promise, aborted(signal)]);
      }
      await sleepToBeat(this.parts.clock, lookMs, signal).catch(() => {});
      const nowNs = this.parts.clock.monotonicNs();
      const isOver = ({ socket, dueNs }: Held): boolean => nowNs >= dueNs || socket.isHungUp();
      for (const { socket } of this.#held.filter(isOver)) socket[Symbol.dispose]();
      this.#held = this.#held.filter(({ socket }) => socket.isOpen);
    }
  }

  [Symbol.dispose](): void {
    for (const { socket } of this.#held.splice(0)) socket[Symbol.dispose]();
  }

  /** This cut is the how manieth of its origin. */
  #count(name: string): number {
    const nowNs = this.parts.clock.monotonicNs();
    const known = this.#origins.get(name);
    const cuts = known !== undefined && this.#isRecent(known) ? known.cuts + 1 : 1;
    this.#origins.delete(name);
    if (this.#origins.size >= originsMax) this.#origins.delete(this.#origins.keys().next().value!);
    this.#origins.set(name, { cuts, lastNs: nowNs });
    return cuts;
  }

  #isRecent({ lastNs }: Origin): boolean {
    return this.parts.clock.monotonicNs() - lastNs < peaceMs * 1e6;
  }
}

/** What a guard gives. */
export type CutGuard = {
  readonly name: string;
  readonly program: { readonly pid: number };
  readonly clock: Clock;
  readonly storage: Pick<Storage, "event">;
};

/** For one program. Where its descriptors cannot be had, no close is withheld. */
export function startWithholding({ name, program, clock, storage }: CutGuard, tasks: TaskGroup): WithheldCloses {
  let descriptors: ForeignDescriptors | null = null;
  const hold = (fd: number): HeldDescriptor | null => {
    try {
      descriptors ??= new ForeignDescriptors(program.pid);
      return descriptors.hold(fd);
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      return null; // The program has ended, or the kernel is too old: its clients then see each close at once.
    }
  };
  const told = (peer: string, withheldMs: number): void => storage.event("close.withheld", name, { peer, withheldMs });
  const closes = new WithheldCloses({ clock, hold, told });
  tasks.start(async (signal) => {
    await closes.run(signal);
    closes[Symbol.dispose]();
    descriptors?.[Symbol.dispose]();
  });
  return closes;
}

/** How long the close of an origin's cut number `cuts` is withheld, ms. */
export function withheldFor(cuts: number): number {
  return cuts <= freeCuts ? 0 : Math.min(withheldMsMax, firstMs * 2 ** (cuts - freeCuts - 1));
}

/** The address without the port; what is no internet address counts as one. */
export function originOf(peer: string): string {
  return peer.startsWith("unix:") ? "unix" : peer.replace(/:\d+$/, "");
}
