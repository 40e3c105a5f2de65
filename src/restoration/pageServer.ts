// SPDX-License-Identifier: Apache-2.0
/**
 * Answers a guest's page faults while it runs, and brings the rest of its memory behind them.
 *
 * Gets the fault connection and a PageFill; gives the order of first touches. Cloud Hypervisor asks for every page once,
 * ascending in each region (its own fill), and for a page that the guest touches out of turn; one request is outstanding.
 * Between requests, after a moment: the recorded order, then all that has content. Ends when Cloud Hypervisor hangs up: every page was asked
 * for. A page that cannot be served is not answered. Blocks; no SQL but one prepared read an extent. Source:
 * `vmm/src/memory_manager.rs` of v53.0; measured at 15 µs a request.
 */
import type { UnixStream } from "#board/native/unixStream.ts";
import { systemClock } from "#clock.ts";
import { HypervisorError, NativeError } from "#errors.ts";
import { type GuestRam, pageBytes } from "#vm/offload/guestRam.ts";
import { stepError } from "#vm/offload/receiver.ts";
import { decodeRange, decodeRequest, encodeResponse, messageBytes } from "#vm/offload/wire.ts";
import type { FillRest } from "./fillRest.ts";
import type { PageFill } from "./pageFill.ts";
import { chunkPages } from "./pageMap.ts";
import { addWait } from "./pageWaits.ts";
import { touchesMax } from "./touchOrder.ts";

/** A request is two writes right after one another. */
const restMsMax = 5_000;
const answerMsMax = 5_000;
/** Cloud Hypervisor's own fill never rests for so long, but a box that swaps might. */
const idleMsMax = 120_000;
/**
 * Until so long after it runs, a guest whose first pages were known has the processors, and before it those who restore it:
 * only what is asked for is brought, and Cloud Hypervisor's own fill, which keeps one of them busy, is answered after a rest.
 */
const quietMs = 250;

export class PageServer {
  /** Pages that the guest itself touched, in order. */
  readonly touched: number[] = [];
  readonly #request = new Uint8Array(new ArrayBuffer(2 * messageBytes));
  readonly #head = this.#request.subarray(0, messageBytes);
  readonly #ok = encodeResponse("ok");
  readonly #cursors: FillCursor[];
  #backlog: Iterator<number> | null;
  readonly #firstPagesKnown: boolean;
  /** Null once the guest has had its time; that begins when it runs, and is none where its first pages are not known. */
  #quietUntilNs: number | null = Number.POSITIVE_INFINITY;
  /** Nothing was asked for then, or another request was taken: the next one cannot have waited for longer. */
  #silentNs = systemClock.monotonicNs();
  #firstMomentEndsNs = 0;
  /** Whoever rests keeps the guest's memory registered: not for the last pages. */
  #answersToRest: number;

  constructor(
    private readonly stream: UnixStream,
    private readonly fill: PageFill,
    recorded: readonly number[],
    /** Where the guest's waits are counted; may be shared. */
    private readonly waits: BigInt64Array,
    private readonly rest: FillRest,
  ) {
    this.#answersToRest = fill.map.ram.pages / 2;
    this.#firstPagesKnown = recorded.length > 0;
    this.#cursors = fill.map.ram.regions.map(({ firstPage, bytes }) => new FillCursor(firstPage, bytes / pageBytes));
    this.#backlog = backlogOf(fill, recorded);
  }

  /** Everything that has content is there. */
  get drained(): boolean {
    return this.#backlog === null;
  }

  /** Answers the request that waits, if one does. False once Cloud Hypervisor has hung up. @throws see `#answer` */
  serveWaiting(): boolean {
    const came = this.#during(() => this.stream.readNow(this.#request));
    if (came !== 0) return this.#take(came);
    this.#silentNs = systemClock.monotonicNs();
    return true;
  }

  /** The guest runs now. */
  begin(): void {
    this.#firstMomentEndsNs = systemClock.monotonicNs() + quietMs * 1e6;
    if (!this.#firstPagesKnown) this.#endQuiet();
    else if (this.#quietUntilNs !== null) this.#quietUntilNs = this.#firstMomentEndsNs;
  }

  /** What it has touched by now is what it wants first. */
  get isPastFirstMoment(): boolean {
    return systemClock.monotonicNs() >= this.#firstMomentEndsNs;
  }

  /** Waits for the next request, bringing pages meanwhile. False once Cloud Hypervisor has hung up. @throws see `#answer` */
  serveNext(): boolean {
    for (;;) {
      const came = this.#during(() => this.stream.readNow(this.#request));
      if (came !== 0) return this.#take(came);
      this.#silentNs = systemClock.monotonicNs();
      if (this.#isQuiet() || !this.bringSome()) {
        if (!this.#during(() => this.stream.awaitReadable(idleMsMax))) throw silent();
        this.#silentNs = systemClock.monotonicNs();
      }
    }
  }

  #isQuiet(): boolean {
    if (this.#quietUntilNs !== null && systemClock.monotonicNs() >= this.#quietUntilNs) this.#endQuiet();
    return this.#quietUntilNs !== null;
  }

  #endQuiet(): void {
    this.#quietUntilNs = null;
    this.rest[Symbol.dispose]();
  }

  /** Brings one extent's worth of pages; false where none is left. */
  bringSome(): boolean {
    while (this.#backlog !== null) {
      const next = this.#backlog.next();
      if (next.done === true) {
        this.#backlog = null;
        break;
      }
      const written = this.fill.bring(next.value);
      this.fill.counts.background += written;
      if (written > 0) return true;
    }
    return false;
  }

  /** `came`: bytes of it that are there already; -1 where the peer has hung up. */
  #take(came: number): boolean {
    if (came < 0) return false;
    if (came < this.#request.length) {
      this.#during(() => this.stream.read(this.#request.subarray(came), restMsMax));
    }
    const { command } = decodeRequest(this.#head);
    if (command === "abandon") return false;
    if (command !== "pageFault") throw broken(`${command} came on the fault connection`);
    this.#answer();
    return true;
  }

  /** @throws HypervisorError hypervisor.protocol, StorageError where the page is lost, NativeError native.memoryFull */
  #answer(): void {
    const { fill } = this;
    const tookNs = systemClock.monotonicNs();
    const { gpa, bytes } = decodeRange(this.#request, messageBytes);
    const first = pageIn(fill.map.ram, gpa, bytes);
    let wanted = false;
    let spread: { page: number; extent: Parameters<PageFill["spread"]>[1] } | null = null;
    for (let page = first; page < first + bytes / pageBytes; page += 1) {
      const again = fill.ask(page);
      const touched = this.#isTouch(page) || again;
      wanted ||= touched;
      if (touched && this.touched.length < touchesMax) this.touched.push(page);
      const extent = fill.answer(page, again, touched);
      if (extent !== null) spread = { page, extent };
    }
    let sinceNs = tookNs;
    if (wanted) this.rest.touched();
    else if (this.#isQuiet()) sinceNs = this.#rest();
    this.#during(() => this.stream.write(this.#ok, answerMsMax));
    if (wanted) addWait(this.waits, systemClock.monotonicNs() - this.#silentNs);
    this.#silentNs = sinceNs;
    if (spread !== null) fill.counts.background += fill.spread(spread.page, spread.extent);
  }

  /** Gives since when a fault may have been waiting, ns. */
  #rest(): number {
    const fromNs = systemClock.monotonicNs();
    this.#answersToRest -= 1;
    if (this.#answersToRest > 0) return this.rest.rest(Math.min(quietMs, (this.#quietUntilNs! - fromNs) / 1e6));
    this.#endQuiet();
    return fromNs;
  }

  /** The fill asks for the lowest page that was not asked for; whatever else is asked for, the guest wants. */
  #isTouch(page: number): boolean {
    const cursor = this.#cursors.findLast(({ first }) => first <= page)!;
    return !cursor.passes(page);
  }

  #during<Value>(act: () => Value): Value {
    try {
      return act();
    } catch (error) {
      if (error instanceof NativeError) throw stepError(error, "serve");
      throw error;
    }
  }
}

/** Where the fill is in one region. */
class FillCursor {
  #next: number;
  readonly #ahead = new Set<number>();

  constructor(
    readonly first: number,
    count: number,
  ) {
    this.#next = first;
    this.end = first + count;
  }

  private readonly end: number;

  /** True where the fill, as it goes, would have asked for this page now. */
  passes(page: number): boolean {
    if (page !== this.#next) {
      if (page > this.#next) this.#ahead.add(page);
      return false;
    }
    do this.#next += 1;
    while (this.#next < this.end && this.#ahead.delete(this.#next));
    return true;
  }
}

/** Pages to bring: the recorded ones first. */
function* backlogOf(fill: PageFill, recorded: readonly number[]): Generator<number> {
  yield* recorded;
  for (let chunk = 0; chunk < fill.map.chunkCount; chunk += 1) {
    if (fill.map.isZeroChunk(chunk)) continue;
    for (let index = 0; index < chunkPages; index += 1) yield chunk * chunkPages + index;
  }
}

function pageIn(ram: GuestRam, gpa: number, bytes: number): number {
  if (bytes > 0 && bytes % pageBytes === 0) {
    ram.regionOf(gpa, bytes);
    return ram.pageAt(gpa);
  }
  throw broken(`a page of ${bytes} bytes was asked for`);
}

const broken = (why: string): HypervisorError =>
  new HypervisorError("hypervisor.protocol", `the migration protocol was broken: ${why}`, { step: "serve" });
const silent = (): HypervisorError =>
  new HypervisorError("hypervisor.peerSilent", `Cloud Hypervisor asked for nothing within ${idleMsMax} ms`, {
    step: "serve",
  });
