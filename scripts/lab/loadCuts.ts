// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts under load: the image's own kernel and system write journal, outbox and checkpoints on an XFS, on a disk that
 * keeps a record. After a cut at any moment of the record all that was acknowledged until then must be there.
 *
 * Cuts come in groups: one machine loads the disk, another one looks at what each cut of the group left, as a file system of
 * its own. The next group goes on from the last cut's disk, after its repair; every `groupsPerDisk` groups the disk is new.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Random, seededRandom, systemClock } from "#clock.ts";
import { run } from "#image/commands.ts";
import type { BootedBox } from "./bootedBox.ts";
import type { CutReport } from "./cutDisk.ts";
import { anyTime, anyWrite, cutAfter, type Moment, RecordingDisk, readTold, type Span } from "./diskRecord.ts";
import { LabError } from "./labError.ts";
import { diskName, LoadMachine, makeDisk, placesMax } from "./loadMachine.ts";
import { serveNbd } from "./nbdServer.ts";
import { nbdDrive } from "./poweredDisk.ts";

const cutsPerGroup = placesMax - 1;
const groupsPerDisk = 3;
/** A group is loaded until each kind has been acknowledged so often. */
const acknowledgedMin = { journal: 12, outbox: 12, checkpoint: 4 } as const;
const loadMsMax = 300_000;
const lookEachMs = 500;
const checkMsMax = 600_000;
const program = "/usr/lib/holdfast/bin/bun /run/lab/scripts/lab/cutLoad.ts";
/** A checkpoint takes as long as thousands of rows. */
const favoured = "nice -n -3";
const mount = (disk: string): string => `mount -t xfs -o noatime ${disk} /run/disk`;
/** It goes on with the time at which it was saved, and ids of rows are made of times. */
const setClock = (): string => `date -s @${Math.round(systemClock.wallMs() / 1_000)}`;
const places = "/run/disk /run/cut";

type Acknowledged = { readonly journal: number; readonly outbox: number; readonly checkpoint: number };
const nothing: Acknowledged = { journal: 0, outbox: 0, checkpoint: 0 };
type Found = {
  readonly journal: number;
  readonly outbox: number;
  readonly checkpoints: number;
  readonly broken: readonly string[];
};
type Cut = { readonly image: string; readonly facts: Record<string, unknown>; readonly acknowledged: Acknowledged };
type Group = { readonly cuts: readonly Cut[]; readonly first: number; readonly checker: BootedBox };

export class LoadCuts implements AsyncDisposable {
  #group: Group | null = null;
  #groups = 0;
  /** What the disk of the next group holds already. */
  #before: { readonly acknowledged: Acknowledged; readonly journal: number; readonly outbox: number } | null = null;

  private constructor(
    private readonly machine: LoadMachine,
    private readonly directory: string,
    private readonly seed: number,
    private readonly ignoreFlushes: boolean,
  ) {}

  /** A folder that holds a saved machine is used again. */
  static async open(
    image: string,
    directory: string,
    seed: number,
    tell: (text: string) => void,
    ignoreFlushes = false,
  ): Promise<LoadCuts> {
    return new LoadCuts(await LoadMachine.open(image, directory, tell), directory, seed, ignoreFlushes);
  }

  /** @throws LabError lab.machine with what is broken */
  async cut(index: number, last: number): Promise<Record<string, unknown>> {
    if (this.#group === null || index >= this.#group.first + this.#group.cuts.length) await this.#load(index, last);
    const { cuts, first, checker } = this.#group!;
    const place = index - first;
    const { image, facts, acknowledged } = cuts[place]!;
    const [said] = await checker.says(new RegExp(`[\\s\\S]*\nCHECKED ${diskName(place)}\n`), checkMsMax);
    const found = readFound(said);
    if (found.broken.length > 0) throw new LabError("lab.machine", found.broken.join("; "));
    this.#before = { acknowledged, journal: found.journal, outbox: found.outbox };
    if (place < cuts.length - 1) rmSync(image);
    const { journal, outbox, checkpoint } = acknowledged;
    return { ...facts, acknowledged: `${journal}/${outbox}/${checkpoint}`, found };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#group?.checker[Symbol.asyncDispose]();
  }

  /** One run of the load, and what its cuts leave. */
  async #load(first: number, last: number): Promise<void> {
    const count = Math.min(cutsPerGroup, last - first + 1);
    await this.#group?.checker[Symbol.asyncDispose]();
    const [base, disk, record] = ["base.img", "record.img", "record"].map(this.#path) as [string, string, string];
    if (this.#groups % groupsPerDisk === 0 || this.#before === null) {
      this.#before = null;
      rmSync(base, { force: true });
      await makeDisk(base);
    } else await run(["mv", this.#group!.cuts.at(-1)!.image, base]);
    this.#groups += 1;
    await run(["cp", "--sparse=always", base, disk]);
    const { span, acknowledgedBy } = await this.#record(disk, record, seededRandom(this.seed * 100_003 - first));
    const cuts: Cut[] = [];
    for (let index = first; index < first + count; index += 1) {
      const random = seededRandom(this.seed * 100_003 + index);
      const moment = (index % 2 === 0 ? anyTime : anyWrite)(readTold(record), span, random);
      const image = this.#path(`cut-${index}.img`);
      await run(["cp", "--sparse=always", base, image]);
      const report = cutAfter(record, moment.count, image, Math.floor(random() * 2 ** 31), this.ignoreFlushes);
      cuts.push({ image, facts: describe(moment, span, report), acknowledged: acknowledgedBy(moment.atNs) });
    }
    const drives = cuts.map(({ image }, place) => `file=${image},format=raw,if=none,id=d${place},cache=writeback`);
    const checker = this.machine.goOn(drives);
    this.#group = { cuts, first, checker };
    await checker.shellAgain();
    await checker.shell(setClock());
    const promised = cuts.map(
      ({ acknowledged: { journal, outbox, checkpoint } }, place) =>
        `${diskName(place)}:${journal}:${outbox}:${checkpoint}`,
    );
    checker.type(`${program} disks ${places} ${promised.join(" ")}`);
  }

  /** Loads the disk until enough has been acknowledged; gives the span of the load, and what was told durable by a time. */
  async #record(
    image: string,
    record: string,
    random: Random,
  ): Promise<{ readonly span: Span; readonly acknowledgedBy: (atNs: number) => Acknowledged }> {
    const { acknowledged, journal, outbox } = this.#before ?? { acknowledged: nothing, journal: 0, outbox: 0 };
    const socket = this.#path("record.socket");
    rmSync(socket, { force: true });
    using disk = new RecordingDisk(image, record);
    using _served = serveNbd(socket, disk);
    await using box = this.machine.goOn([nbdDrive(socket, "d0")]);
    await box.shellAgain();
    await box.shell(setClock());
    const make = this.#before === null ? `mkfs.xfs -q -f -m reflink=1 ${diskName(0)} && ` : "";
    await box.shell(`${make}${mount(diskName(0))}`, checkMsMax);
    const fromNs = disk.nowNs();
    const offsetNs = systemClock.monotonicNs() - fromNs;
    const seed = Math.floor(random() * 2 ** 31);
    const from = box.console.length;
    box.type(
      `(${favoured} ${program} checkpoints ${places} ${seed} &); ${program} load ${places} ${journal + 1} ${outbox + 1} ${seed}`,
    );
    const acknowledgedBy = (atNs: number): Acknowledged =>
      newest(box.saidBy(atNs + offsetNs).slice(from), acknowledged);
    await enough(() => box.console.slice(from));
    const toNs = disk.nowNs();
    return { span: { fromNs, toNs }, acknowledgedBy };
  }

  readonly #path = (name: string): string => join(this.directory, name);
}

const told = (text: string): RegExpExecArray[] => [...text.matchAll(/^LOAD (journal|outbox|checkpoint) (\d+)$/gm)];

function newest(text: string, before: Acknowledged): Acknowledged {
  const found = { ...before };
  for (const [, kind, number] of told(text)) {
    found[kind as keyof Acknowledged] = Math.max(found[kind as keyof Acknowledged], Number(number));
  }
  return found;
}

async function enough(console: () => string): Promise<void> {
  const endNs = systemClock.monotonicNs() + loadMsMax * 1e6;
  for (;;) {
    const lines = told(console());
    const lacks = Object.entries(acknowledgedMin).filter(
      ([kind, count]) => lines.filter(([, each]) => each === kind).length < count,
    );
    if (lacks.length === 0) return;
    if (systemClock.monotonicNs() > endNs) {
      const what = lacks.map(([kind]) => kind).join(", ");
      throw new LabError("lab.machine", `too little was acknowledged (${what}): ${console().slice(-500)}`);
    }
    await systemClock.sleep(lookEachMs);
  }
}

function readFound(said: string): Found {
  // The shell may show its prompt only after it has read the command: then what is said first begins behind it.
  const text = [...said.matchAll(/^(?:# )?FOUND (\{.*\})$/gm)].at(-1)?.[1];
  if (text === undefined) throw new LabError("lab.machine", `nothing could be looked at: ${said.slice(-500)}`);
  return JSON.parse(text) as Found;
}

const describe = ({ atNs, count }: Moment, { fromNs }: Span, report: CutReport): Record<string, unknown> => ({
  afterMs: Math.round((atNs - fromNs) / 1e6),
  told: count,
  ...report,
});
