// SPDX-License-Identifier: Apache-2.0
/**
 * The processes that a guarded program has forked: workers of a master, a backend for each connection, a daemon's own.
 * Each is guarded like the first, by a stub of its own, and forgotten when it ends.
 *
 * They are noticed in /proc, not by fork events of the stub, but where each serves one connection (`nursery.ts`): with those
 * every fork stops parent and child until we have answered. So a fork costs what it costs without us, and a child is unguarded
 * for its first moments (up to `briskLookMs` until it is seen, `calmLookMs` where none was made or ended for `calmAfterMs`;
 * `youngMs`; then an attach). One that ends before is
 * never touched. Limits: `childrenMax`, `attachesMax` at a time.
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { sleepToBeat } from "#clock.ts";
import { explain } from "#errors.ts";
import { OwnChildren, readDescendants } from "#monitor/descendants.ts";
import { servesOne } from "#monitor/handedConnection.ts";
import { isAlive, readExecutable, readStartTicks } from "#monitor/processes.ts";
import { ProcessNews } from "#monitor/processNews.ts";
import { type Portrait, portrayProgram, wasShort } from "../daemon.ts";
import type { Family, GuardNews } from "../family.ts";
import { runGuard } from "../guard.ts";
import { requireGuardable } from "../guardable.ts";
import type { GuardParts } from "../guardParts.ts";
import { clearStub } from "../leftovers.ts";
import type { Nursery } from "../nursery.ts";
import { ChildNotices } from "./childNotices.ts";
import type { LifeParts } from "./lifeParts.ts";

const briskLookMs = 50;
/** The beat of other looks at the program, so this one wakes nobody. */
const calmLookMs = 500;
const calmAfterMs = 30_000;
/** While one is too young to be attached to. */
const youngLookMs = 20;
/** A child that ends sooner does not cost an attach. */
const youngMs = 50;
/** Looks of this kind also find children of other threads than the first, and of children: where a process was made since. */
const briskWideLookMs = 200;
const calmNewsLookMs = 1000;
/** Processes that come to belong to a program without being made are found by these. */
const quietWideLookMs = 5000;
export const childrenMax = 1024;
const attachesMax = 4;

type Child = { readonly pid: number; readonly letGo: AbortController; readonly ended: Promise<void> };

export class Children {
  readonly #guarded = new Map<number, Child>();
  /** When each was seen first, ns: what lives for `youngMs` is attached to. */
  readonly #seen = new Map<number, number>();
  /** Could not be guarded; not tried again as long as they live. */
  readonly #refused = new Set<number>();
  /** When one was seen first or ended, ns. */
  #stirredNs: number;
  #attaching = 0;
  #toldFull = false;

  constructor(
    private readonly parts: LifeParts,
    private readonly family: Family,
    private readonly nursery: Nursery,
  ) {
    this.#stirredNs = parts.clock.monotonicNs();
  }

  get count(): number {
    return this.#guarded.size;
  }

  /** Looks for children of `parent` until the signal aborts. */
  async follow(parent: number, served: () => boolean, letGo: AbortSignal, signal: AbortSignal): Promise<void> {
    await this.#sweep(parent);
    const { clock } = this.parts;
    const newcomers = new ProcessNews(clock);
    using own = new OwnChildren(parent);
    this.#stirredNs = clock.monotonicNs();
    let [isNews, wideNs] = [true, 0];
    while (!signal.aborted && !letGo.aborted) {
      const nowNs = clock.monotonicNs();
      isNews = newcomers.any() || isNews;
      const calm = nowNs - this.#stirredNs > calmAfterMs * 1e6;
      const newsLookMs = calm ? calmNewsLookMs : briskWideLookMs;
      const wide = nowNs - wideNs >= (isNews ? newsLookMs : quietWideLookMs) * 1e6;
      if (wide) [isNews, wideNs] = [false, nowNs];
      // Where nobody was made, nobody is new.
      const present = wide ? this.#all(parent) : isNews ? own.read() : own.last;
      const isYoung = this.#consider(present, nowNs, served(), letGo);
      // Only a further wide look sees a grandchild again.
      isNews ||= isYoung;
      if (wide) this.#forget(new Set(present));
      const beatMs = calm ? calmLookMs : briskLookMs;
      await (isYoung ? clock.sleep(youngLookMs, signal) : sleepToBeat(clock, beatMs, signal)).catch(() => {});
    }
  }

  /** The oldest that lives on after its parent's orderly end: of the same program, or started by what was but a starter. */
  heir(portrait: Portrait): number | null {
    const living = [...this.#guarded.keys()].filter((pid) => isAlive(pid));
    const own = living.filter((pid) => wasShort(portrait) || readExecutable(pid) === portrait.executable);
    return own.sort((a, b) => (readStartTicks(a) ?? 0) - (readStartTicks(b) ?? 0))[0] ?? null;
  }

  /** Lets go of all; resolves once none is held. */
  async letGo(): Promise<void> {
    const all = [...this.#guarded.values()];
    for (const child of all) child.letGo.abort();
    await Promise.all(all.map((child) => child.ended));
    this.#seen.clear();
    rmSync(join(this.parts.runDirectory, "children"), { recursive: true, force: true });
  }

  /** A wide look has seen all there are. */
  #forget(present: ReadonlySet<number>): void {
    for (const pid of this.#seen.keys()) if (!present.has(pid)) this.#seen.delete(pid);
    for (const pid of this.#refused) if (!present.has(pid)) this.#refused.delete(pid);
  }

  #all(parent: number): readonly number[] {
    const own = readDescendants(parent, true, childrenMax);
    return [...new Set([...own, ...(this.parts.relatives?.() ?? [])])].filter((pid) => pid !== parent);
  }

  /** Begins with those that have lived long enough; true where one has not yet. */
  #consider(present: readonly number[], nowNs: number, served: boolean, letGo: AbortSignal): boolean {
    let isYoung = false;
    for (const pid of present.slice(0, childrenMax)) {
      const seenNs = this.#seen.get(pid) ?? nowNs;
      if (seenNs === nowNs) this.#stirredNs = nowNs;
      this.#seen.set(pid, seenNs);
      if (nowNs - seenNs < youngMs * 1e6) isYoung = true;
      else this.#begin(pid, served, letGo);
    }
    return isYoung;
  }

  #begin(pid: number, served: boolean, letGo: AbortSignal): void {
    if (this.#guarded.has(pid) || this.#refused.has(pid) || this.#attaching >= attachesMax) return;
    if (this.#guarded.size >= childrenMax) {
      this.#tellFull();
      return;
    }
    try {
      requireGuardable(pid);
    } catch {
      // Of a kind that is not guarded, or gone: the others are.
      this.#refused.add(pid);
      return;
    }
    const own = new AbortController();
    this.#attaching += 1;
    const child = { pid, letGo: own, ended: this.#guard(pid, served, AbortSignal.any([letGo, own.signal])) };
    this.#guarded.set(pid, child);
  }

  async #guard(pid: number, served: boolean, letGo: AbortSignal): Promise<void> {
    const { parts } = this;
    const runDirectory = this.#directoryOf(pid);
    let attached = false;
    const settle = (): void => {
      if (!attached) this.#attaching -= 1;
      attached = true;
    };
    const program = { pid, origin: "attached", served, portrait: portrayProgram(pid), ended: null } as const;
    const news = (one: GuardNews): void => {
      if (one.kind === "ill") parts.news?.(one);
      if (one.kind !== "attached" || attached) return;
      settle();
      if (!this.nursery.isWanted && servesOne(pid)) void this.nursery.follow();
      parts.notices.tell({ event: "child", workload: parts.name, pid, state: "guarded" });
    };
    const notices = new ChildNotices(parts.notices, parts.name, pid);
    const claim = (): Promise<void> => this.nursery.letGo(pid);
    const own: GuardParts = { ...parts, program, runDirectory, notices, news, letGo, claim, family: this.family };
    try {
      await runGuard({ ...own, probes: [], trace: undefined });
    } catch (error) {
      // It ended while we came, or another debugger has it. Whatever it is, it is this one's trouble alone.
      if (isAlive(pid)) {
        this.#refused.add(pid);
        parts.storage.event("child.unguarded", parts.name, { pid, why: explain(error) });
        parts.log("info", "child.unguarded", { pid, why: explain(error) });
      }
    } finally {
      settle();
      this.#stirredNs = parts.clock.monotonicNs();
      this.#guarded.delete(pid);
      rmSync(runDirectory, { recursive: true, force: true });
    }
  }

  #directoryOf(pid: number): string {
    return join(this.parts.runDirectory, "children", String(pid));
  }

  /** Stubs of an earlier supervisor whose process is no child any more, or is gone. */
  async #sweep(parent: number): Promise<void> {
    const present = new Set(this.#all(parent));
    for (const pid of namesIn(join(this.parts.runDirectory, "children"))) {
      if (present.has(pid)) continue;
      await clearStub(join(this.#directoryOf(pid), "stub"), this.parts.clock);
      rmSync(this.#directoryOf(pid), { recursive: true, force: true });
    }
  }

  #tellFull(): void {
    if (this.#toldFull) return;
    this.#toldFull = true;
    const text = `${this.parts.name} has more than ${childrenMax} processes: those beyond are not guarded`;
    this.parts.notices.tell({ event: "warning", workload: this.parts.name, text });
  }
}

function namesIn(directory: string): number[] {
  try {
    return readdirSync(directory)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return []; // No child was ever guarded here.
  }
}
