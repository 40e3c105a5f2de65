// SPDX-License-Identifier: Apache-2.0
/**
 * Updates of this box: who asks ends here, and the machine's wishes are carried out here. Gets the box, the tool and the doors
 * to the rest of the supervisor; gives orders and what is told of them. One at a time.
 *
 *     order ─▶ stepUpdate ─▶ book on the disk ─▶ boot loader's environment, journal, job ─▶ restart of the box, when nothing forbids it
 *
 * Blocks for two small writes at each step. Limits: those of the tool and of the gate.
 */
import type { Clock } from "#clock.ts";
import { explainInLine, HoldfastError, UpdateError, unreachable } from "#errors.ts";
import type { Log } from "#log.ts";
import { TaskGroup } from "#tasks.ts";
import { loadBook, saveBook } from "./bookFile.ts";
import { readEnvironment, writeEnvironment } from "./environmentFile.ts";
import type { BundleFacts, UpdateTool } from "./rauc.ts";
import { activated, givenUp, markedGood, readSlotBook, type SlotBook, withSlotBook } from "./slotEnvironment.ts";
import { type SlottedBox, takeEnvironmentLoss, takeSilence } from "./slottedBox.ts";
import { type Before, cutText, lockOf, type UpdateBook, type UpdateLock } from "./updateBook.ts";
import { stepUpdate } from "./updateMachine.ts";
import type { StartFacts, UpdateEffect, UpdateInput } from "./updateStep.ts";
import { compareVersions } from "./versions.ts";

export type UpdatesOptions = {
  readonly box: SlottedBox;
  readonly tool: UpdateTool;
  readonly clock: Clock;
  readonly log: Log;
  /** The kernel's id of this start of the box, and what it shows of the reason, our own note aside. */
  readonly boot: { readonly id: string; readonly why: string };
  readonly tell: (event: string, facts: Readonly<Record<string, string | number>>) => void;
  readonly restart: () => Promise<void>;
  /** What the next version must do as well. */
  readonly before: () => Before;
  /** What would be cut off by a restart; null where nothing would. */
  readonly busy: () => string | null;
};

export type InstallOrder = {
  readonly path: string;
  /** Also a version that is not newer. */
  readonly olderToo: boolean;
  readonly job: string | null;
  /** Removes the bundle afterwards. */
  readonly passing?: boolean;
};
export type UpdateProgress = { readonly percent: number; readonly step: string };
export type JobEnd = { readonly job: string; readonly why: string | null };

const leaveEveryMs = 2_000;
/** Inputs that somebody asks for. */
const asked: readonly UpdateInput["kind"][] = ["ask", "back", "mark", "clear", "lock"];

export class Updates implements AsyncDisposable {
  readonly #options: UpdatesOptions;
  readonly #tasks = new TaskGroup();
  #book: UpdateBook;
  #progress: UpdateProgress | null = null;
  #waitsFor: string | null = null;
  #lacks: string | null = null;
  #checking = false;
  /** Ends of jobs that nobody has taken yet. */
  #ends: JobEnd[] = [];
  #takeEnd: ((end: JobEnd) => void) | null = null;
  #changed: () => void = () => {};

  constructor(options: UpdatesOptions) {
    this.#options = options;
    const { book, damaged } = loadBook(options.box.recordsDirectory);
    this.#book = book;
    if (damaged) options.tell("update.recordLost", { severity: 3 });
  }

  get box(): SlottedBox {
    return this.#options.box;
  }
  get book(): UpdateBook {
    return this.#book;
  }
  get slots(): SlotBook {
    return readSlotBook(readEnvironment(this.box.environmentPath));
  }
  get progress(): UpdateProgress | null {
    return this.#progress;
  }
  /** Why an installed update is not started yet. */
  get waitsFor(): string | null {
    return this.#waitsFor;
  }
  /** The check that keeps a trial from being good now; null where all are. Set by who looks. */
  get lacks(): string | null {
    return this.#lacks;
  }
  set lacks(check: string | null) {
    if (check === this.#lacks) return;
    this.#lacks = check;
    this.#changed();
  }
  get lock(): UpdateLock | null {
    return lockOf(this.#book, this.#options.clock.wallMs());
  }
  get failed(): Promise<never> {
    return this.#tasks.failed;
  }

  /** Called after every change of the book. One listener. */
  onChange(changed: () => void): void {
    this.#changed = changed;
  }

  /** Whoever looks after jobs takes their ends, those of before too. */
  onEnd(take: ((end: JobEnd) => void) | null): void {
    this.#takeEnd = take;
    if (take !== null) for (const end of this.#ends.splice(0)) take(end);
  }

  /** Holds updates back until `untilMs`, or until somebody lets them go. @throws UpdateError where it cannot be kept */
  hold(why: string, by: string, untilMs: number | null): void {
    const atMs = this.#options.clock.wallMs();
    this.give({ kind: "lock", lock: { why: cutText(why), by: cutText(by), atMs, untilMs } });
  }

  /** Holds what is on record against what runs. Once, before anything is asked. */
  begin(): void {
    const { box, boot } = this.#options;
    const facts: StartFacts = {
      version: box.image.version,
      boot: boot.id,
      environmentLost: takeEnvironmentLoss(box),
      bootWhy: boot.why,
      silence: takeSilence(box),
    };
    this.give({ kind: "started", ...facts });
    if (this.#book.phase.kind === "installed") this.#leaveWhenAllowed();
  }

  /** Whether this bundle may be installed here. @throws UpdateError with the reason why not */
  async verify(path: string, olderToo: boolean, signal: AbortSignal): Promise<BundleFacts> {
    const { image } = this.box;
    const facts = await this.#options.tool.inspect(path);
    const { version, compatible } = facts;
    if (compatible !== image.compatible) {
      const words = `the bundle is for ${compatible}, and this box is ${image.compatible}`;
      throw new UpdateError("update.compatible", words);
    }
    if (!olderToo && compareVersions(version, image.version) <= 0) {
      const words = `version ${version} is not newer than ${image.version}, which runs`;
      throw new UpdateError("update.older", `${words}; --older installs it all the same`);
    }
    const known = this.#book.refused.find((each) => each.version === version);
    if (known !== undefined) {
      const words = `version ${version} failed here: ${known.reason}`;
      throw new UpdateError("update.refused", `${words}; holdfast update clear ${version} lets it try again`);
    }
    await this.#options.tool.checkWhole(path, signal);
    return facts;
  }

  /** Resolves once the bundle is found good and its installation has begun; `told` hears how it goes. @throws UpdateError */
  async install(order: InstallOrder, signal: AbortSignal, told: (progress: UpdateProgress) => void): Promise<string> {
    if (this.#checking) throw new UpdateError("update.state", "another bundle is being looked at");
    this.#checking = true;
    try {
      const held = this.lock;
      if (held !== null) throw new UpdateError("update.state", `updates are held back by ${held.by}: ${held.why}`);
      const { version } = await this.verify(order.path, order.olderToo, signal);
      this.give({ kind: "ask", version, before: this.#options.before(), job: order.job });
      this.#tasks.start(() => this.#write(order, told));
      return version;
    } finally {
      this.#checking = false;
    }
  }

  /** One input, all of its effects. @throws UpdateError update.state where it makes no sense now */
  give(input: UpdateInput): void {
    const { box, clock } = this.#options;
    const scene = { slot: box.slot, environment: this.slots, nowMs: clock.wallMs() };
    const step = stepUpdate(this.#book, input, scene);
    if (step.kind === "refused") throw new UpdateError("update.state", step.why);
    if (step.book !== this.#book) this.#save(step.book, asked.includes(input.kind));
    this.#book = step.book;
    for (const effect of step.effects) this.#act(effect);
    this.#changed();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.give({ kind: "ending" });
    } catch (error) {
      this.#options.log("error", "update.notEnded", { why: explainInLine(error) });
    }
    await this.#tasks[Symbol.asyncDispose]();
  }

  async #write({ path, passing = false }: InstallOrder, told: (progress: UpdateProgress) => void): Promise<void> {
    try {
      await this.#options.tool.install(path, (percent, step) => {
        this.#progress = { percent, step };
        told(this.#progress);
        this.#changed();
      });
      this.#progress = null;
      this.give({ kind: "written" });
      this.#leaveWhenAllowed();
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
      this.#progress = null;
      this.give({ kind: "notWritten", why: explainInLine(error) });
    } finally {
      if (passing)
        await Bun.file(path)
          .delete()
          .catch(() => {}); // Gone already: as wanted.
    }
  }

  /** Restarts the box for an installed update as soon as neither a lock nor work under way forbids it. */
  #leaveWhenAllowed(): void {
    const { clock, busy, before } = this.#options;
    this.#tasks.start(async (signal) => {
      while (this.#book.phase.kind === "installed") {
        // Whoever asked for it has this long to hear that it is installed.
        await clock.sleep(leaveEveryMs, signal);
        const held = this.lock;
        const why = held === null ? busy() : `held back by ${held.by}: ${held.why}`;
        if (why !== this.#waitsFor) {
          this.#waitsFor = why;
          this.#changed();
        }
        if (why === null) {
          this.give({ kind: "leaving", before: before() });
          return;
        }
      }
      this.#waitsFor = null;
    });
  }

  /**
   * What is asked for is refused where it cannot be written down. What has happened has happened: the boot loader's
   * environment alone leads to the same slot in the end.
   */
  #save(book: UpdateBook, mustBeKept: boolean): void {
    try {
      saveBook(this.box.recordsDirectory, book);
    } catch (error) {
      if (mustBeKept || !(error instanceof UpdateError)) throw error;
      this.#trouble("update.notRecorded", error);
    }
  }

  #trouble(event: string, error: unknown): void {
    const why = explainInLine(error);
    this.#options.log("error", event, { why });
    this.#options.tell(event, { why, severity: 3 });
  }

  #act(effect: UpdateEffect): void {
    if (effect.kind === "activate") this.#mark((book) => activated(book, effect.slot));
    else if (effect.kind === "markGood") this.#mark((book) => markedGood(book, effect.slot));
    else if (effect.kind === "giveUp") this.#mark((book) => givenUp(book, effect.slot));
    else if (effect.kind === "tell") this.#options.tell(effect.event, effect.facts);
    else if (effect.kind === "settle") this.#end({ job: effect.job, why: effect.why });
    else if (effect.kind === "reboot") this.#restart();
    else unreachable(effect);
  }

  #mark(change: (book: SlotBook) => SlotBook): void {
    const { environmentPath } = this.box;
    const known = readEnvironment(environmentPath);
    const changed = change(readSlotBook(known));
    // A write that changes nothing would still wear the disk.
    if (known !== null && JSON.stringify(readSlotBook(known)) === JSON.stringify(changed)) return;
    try {
      writeEnvironment(environmentPath, withSlotBook(known, changed));
    } catch (error) {
      if (!(error instanceof UpdateError)) throw error;
      this.#trouble("update.notMarked", error);
    }
  }

  #end(end: JobEnd): void {
    if (this.#takeEnd === null) this.#ends.push(end);
    else this.#takeEnd(end);
  }

  #restart(): void {
    this.#tasks.start(async () => {
      try {
        await this.#options.restart();
      } catch (error) {
        this.#trouble("update.notRestarted", error);
      }
    });
  }
}
