// SPDX-License-Identifier: Apache-2.0
/**
 * The rescue records of the fleet that this box holds: one winner for each build and site. Gets received records, local
 * outcomes and blocks; gives hints for the fault path, and says when they changed. Stored as notes, so they work offline.
 *
 * Limits: 64 records a build (the best), 16 of one author in it, 512 in all. The highest revision seen of each author and
 * site is kept, so an old record cannot be played back. What a record did here counts more than what it did elsewhere.
 */
import type { Verdict } from "#fault.ts";
import type { DenyList } from "./deny.ts";
import { contest, score } from "./herdOrder.ts";
import { type HerdContext, type IgnoredWhy, judgeRecord } from "./herdTrust.ts";
import type { KeyId } from "./keys.ts";
import type { Outbox } from "./outbox.ts";
import { Queue } from "./queue.ts";
import type { Place, RescueRecord, WireRung } from "./rescueRecord.ts";

export const recordsPerBuild = 64;
export const recordsPerAuthor = 16;
export const recordsMax = 512;
const floorsMax = 2048;
/** Failures here after which a record is not used any more, until its candidate changes. */
const failuresMax = 2;

export type HeldRecord = {
  readonly record: RescueRecord;
  readonly author: KeyId;
  readonly site: string;
  readonly signed: Uint8Array;
  /** Outcomes here: failures since the candidate changed. */
  readonly failures: number;
};

/** How the fault path is to take a record: before the ladder, after its first choice, or not at all. */
export type HintStanding = "first" | "afterLadder" | "off";

/** A rescue point that worked elsewhere. Names a place and a value, never code. */
export type FleetHint = {
  readonly build: string;
  /** Names the record in `noteOutcome`. */
  readonly site: string;
  readonly signal: string;
  readonly fault: Place;
  readonly boundary: Place | null;
  readonly rung: WireRung;
  readonly candidate: Place | null;
  readonly returnValue: bigint | null;
  readonly score: number;
  readonly standing: HintStanding;
  readonly author: KeyId;
  readonly rev: number;
};

export type ReceiveResult =
  | { readonly kind: "held" | "known" | "loses" }
  | { readonly kind: "ignored"; readonly why: IgnoredWhy };

type Stored = { readonly signed: string; readonly failures: number };
export type Blocks = readonly { readonly build: string; readonly site: string; readonly untilSeconds: number }[];

export class FleetRecords {
  readonly #outbox: Outbox;
  readonly #context: () => Omit<HerdContext, "blocked" | "denied">;
  readonly #held = new Map<string, HeldRecord>();
  readonly #changed = new Queue<string>(256);
  #deny: DenyList = { number: 0, issuedAt: 0, keys: [], records: [] };
  #blocks: Blocks = [];
  /** `herd_ignored_total` by reason. */
  readonly ignored = new Map<IgnoredWhy, number>();

  constructor(outbox: Outbox, context: () => Omit<HerdContext, "blocked" | "denied">) {
    this.#outbox = outbox;
    this.#context = context;
    const blocks = outbox.note("deny", "blocks");
    if (blocks !== null) this.#blocks = JSON.parse(blocks) as Blocks;
    // Kept records are judged again: a key may have gone, a date may have passed.
    for (const { id, value } of outbox.notes("record")) this.#restore(id, JSON.parse(value) as Stored);
  }

  get count(): number {
    return this.#held.size;
  }

  /** Builds whose records changed. One reader. */
  changes(signal: AbortSignal): AsyncIterable<string> {
    return this.#changed.read(signal);
  }

  /** A message on `rescue/BUILD/SITE`. An empty one only frees the broker. */
  receive(build: string, site: string, signed: Uint8Array): ReceiveResult {
    if (signed.length === 0) return { kind: "known" };
    const ruling = judgeRecord(signed, build, site, this.#fullContext());
    if (ruling.kind === "ignored") return this.#ignore(ruling.why);
    const { record, author } = ruling;
    const key = `${build}/${site}`;
    const floor = Number(this.#outbox.note("floor", `${key}/${author}`) ?? -1);
    if (record.rev < floor) return this.#ignore("stale");
    if (record.rev > floor) this.#raiseFloor(`${key}/${author}`, record.rev);
    const present = this.#held.get(key);
    if (present !== undefined && present.author === author && present.record.rev === record.rev)
      return { kind: "known" };
    if (present !== undefined && contest({ record, author }, present) > 0) return { kind: "loses" };
    const failures = present !== undefined && sameCandidate(present.record, record) ? present.failures : 0;
    if (!this.#makeRoom(build, key, author, record)) return this.#ignore("limit");
    this.#hold(key, { record, author, site, signed: new Uint8Array(signed), failures });
    return { kind: "held" };
  }

  get(build: string, site: string): HeldRecord | null {
    return this.#held.get(`${build}/${site}`) ?? null;
  }

  held(build: string): readonly HeldRecord[] {
    return [...this.#held.values()].filter(({ record }) => record.build === build);
  }

  hints(build: string): FleetHint[] {
    const { nowSeconds, clockKnown } = this.#context();
    return this.held(build).flatMap(({ record, author, site, failures }) => {
      if (record.block || (clockKnown && record.expiresAt < nowSeconds)) return [];
      const { signal, fault, boundary, rung, candidate, returnValue, rev } = record;
      const standing = failures === 0 ? "first" : failures < failuresMax ? "afterLadder" : "off";
      return {
        build,
        site,
        signal,
        fault,
        boundary,
        rung,
        candidate,
        returnValue,
        score: score(record),
        standing,
        author,
        rev,
      };
    });
  }

  /** What a record did here. Gives the record if that is worth telling the fleet: it failed, or did not apply. */
  noteOutcome(build: string, site: string, outcome: Verdict | "inapplicable"): HeldRecord | null {
    const held = this.get(build, site);
    if (held === null || outcome === "clean" || outcome === "degraded") return null;
    this.#hold(`${build}/${site}`, { ...held, failures: held.failures + 1 });
    return held;
  }

  /** Forgets records here, with their failures. Gives how many. */
  forget(build: string, site: string | null): number {
    const gone = this.held(build).filter((held) => site === null || held.site === site);
    for (const held of gone) this.#drop(`${build}/${held.site}`);
    return gone.length;
  }

  block(build: string, site: string, untilSeconds: number): void {
    this.#blocks = [
      ...this.#blocks.filter((block) => block.build !== build || block.site !== site),
      { build, site, untilSeconds },
    ];
    this.#blocks = this.#blocks.slice(-recordsMax);
    this.#outbox.putNote("deny", "blocks", JSON.stringify(this.#blocks));
    this.#drop(`${build}/${site}`);
  }

  /** Takes a verified deny list: its keys and records count no more. */
  deny(list: DenyList): void {
    if (list.number <= this.#deny.number) return;
    this.#deny = list;
    for (const [key, { author, record, site }] of this.#held) {
      if (this.isDenied(author) || this.#isBlocked(record.build, site)) this.#drop(key);
    }
  }

  get denyNumber(): number {
    return this.#deny.number;
  }

  isDenied(id: KeyId): boolean {
    return this.#deny.keys.includes(id);
  }

  #isBlocked(build: string, site: string): boolean {
    const { nowSeconds } = this.#context();
    const here = this.#blocks.some(
      (block) => block.build === build && block.site === site && block.untilSeconds > nowSeconds,
    );
    return here || this.#deny.records.some((record) => record.build === build && record.site === site);
  }

  #fullContext(): HerdContext {
    const blocked = (build: string, site: string): boolean => this.#isBlocked(build, site);
    return { ...this.#context(), blocked, denied: (id) => this.isDenied(id) };
  }

  #restore(key: string, { signed, failures }: Stored): void {
    const [build = "", site = ""] = key.split("/");
    const bytes = Uint8Array.fromBase64(signed);
    const ruling = judgeRecord(bytes, build, site, this.#fullContext());
    if (ruling.kind === "believed") {
      this.#held.set(key, { record: ruling.record, author: ruling.author, site, signed: bytes, failures });
    } else this.#outbox.putNote("record", key, null);
  }

  /** Room for one more: the worst of the same build or author goes, if it is worse than the new one. */
  #makeRoom(build: string, key: string, author: KeyId, record: RescueRecord): boolean {
    if (this.#held.has(key)) return true;
    const ofBuild = this.held(build);
    const ofAuthor = ofBuild.filter((held) => held.author === author);
    const all = [...this.#held.values()];
    for (const [group, most] of [
      [ofAuthor, recordsPerAuthor],
      [ofBuild, recordsPerBuild],
      [all, recordsMax],
    ] as const) {
      if (group.length < most) continue;
      const worst = group.reduce((a, b) => (score(a.record) <= score(b.record) ? a : b));
      if (score(worst.record) >= score(record)) return false;
      this.#drop(`${worst.record.build}/${worst.site}`);
    }
    return true;
  }

  #hold(key: string, held: HeldRecord): void {
    this.#held.set(key, held);
    const stored: Stored = { signed: new Uint8Array(held.signed).toBase64(), failures: held.failures };
    this.#outbox.putNote("record", key, JSON.stringify(stored));
    this.#changed.push(held.record.build);
  }

  #drop(key: string): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#outbox.putNote("record", key, null);
    this.#changed.push(held.record.build);
  }

  #raiseFloor(key: string, rev: number): void {
    const floors = this.#outbox.notes("floor");
    if (floors.length >= floorsMax) this.#outbox.putNote("floor", floors[0]!.id, null);
    this.#outbox.putNote("floor", key, String(rev));
  }

  #ignore(why: IgnoredWhy): ReceiveResult {
    this.ignored.set(why, (this.ignored.get(why) ?? 0) + 1);
    return { kind: "ignored", why };
  }
}

const sameCandidate = (a: RescueRecord, b: RescueRecord): boolean =>
  a.rung === b.rung &&
  a.returnValue === b.returnValue &&
  a.candidate?.module === b.candidate?.module &&
  a.candidate?.offset === b.candidate?.offset;
