// SPDX-License-Identifier: Apache-2.0
/**
 * The machine as the page shows it: slots, update, lock, why it was started; and the verbs that the page may ask for it. Gets
 * whoever looks after the machine, or null; gives plain data, and performs restart, lock and going back.
 */
import { rmSync } from "node:fs";
import { explainInLine, HoldfastError } from "#errors.ts";
import { uploadPath } from "#status/model/upload.ts";
import { type BootTold, type Told, type UpdateTold, unknown } from "#status/told.ts";
import type { VerbName, VerbRequest, VerbResult } from "#verbs.ts";
import type { MachineCare } from "../update/machineCare.ts";
import { otherSlot, type Slot, slots } from "../update/slotEnvironment.ts";
import type { UpdatePhase } from "../update/updateBook.ts";
import type { Updates } from "../update/updates.ts";

export class MachineTold {
  /** `directory`: where the page leaves a bundle that was brought to it. */
  constructor(
    private readonly machine: MachineCare | null,
    private readonly directory = "",
  ) {}

  collect(): Pick<Told, "update" | "updateLock" | "boots" | "boxVerbs"> {
    const { machine } = this;
    const updates = machine?.updates ?? null;
    const boots = machine?.boots.map(({ atMs, reason, why }): BootTold => ({ atMs, reason, why })) ?? [];
    const none = unknown("this supervisor installs no updates");
    if (updates === null) {
      return { update: none, updateLock: none, boots, boxVerbs: machine === null ? [] : ["reboot"] };
    }
    const { lock } = updates;
    return {
      update: { known: true, value: updateTold(updates) },
      updateLock: { known: true, value: lock === null ? "" : `${lock.by}: ${lock.why}` },
      boots,
      boxVerbs: [
        ...(["reboot", "maintenance", "wipe"] as const),
        ...(mayGoBack(updates) ? (["update.rollback"] as const) : []),
        ...(lock === null && !busyPhases.includes(updates.book.phase.kind) ? (["update.install"] as const) : []),
      ],
    };
  }

  /** Done once the bundle is found good and its installation has begun. @throws UpdateError */
  async #install(updates: Updates, olderToo: boolean): Promise<void> {
    const path = uploadPath(this.directory);
    try {
      const order = { path, olderToo, job: null, passing: true };
      await updates.install(order, AbortSignal.timeout(checkMsMax), () => {});
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    }
  }

  /** null where this is no verb of the box. */
  async perform({ verb, args, by }: VerbRequest): Promise<VerbResult | null> {
    const { machine } = this;
    if (machine === null || args.w !== undefined || !boxVerbs.includes(verb)) return null;
    const { updates } = machine;
    try {
      if (verb === "reboot") await machine.restart("operator");
      else if (verb === "wipe") machine.wipe();
      else if (updates === null) return { kind: "failed", why: "this box has no slots" };
      else if (verb === "update.install") await this.#install(updates, args.older === true);
      else if (verb === "update.rollback") updates.give({ kind: "back", by: by.who });
      else if (args.on === false) updates.give({ kind: "lock", lock: null });
      else {
        const why = typeof args.why === "string" && args.why !== "" ? args.why : "work on the box";
        updates.hold(why, by.who, null);
      }
      return { kind: "succeeded" };
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
      return { kind: "failed", why: explainInLine(error) };
    }
  }
}

const boxVerbs: readonly VerbName[] = ["reboot", "maintenance", "wipe", "update.rollback", "update.install"];
/** Another bundle has to wait for these to end. */
const busyPhases: readonly UpdatePhase["kind"][] = ["installing", "installed", "trial"];
/** A whole bundle is read and its hash tree checked. */
const checkMsMax = 900_000;

const mayGoBack = ({ box, book, slots: environment }: Updates): boolean => {
  const other = otherSlot(box.slot);
  return environment.ok[other] && book.proven[other] !== null && book.phase.kind !== "installing";
};

export type UpdateStatus = UpdateTold;

/** Slots and update in plain words: for the page and for `holdfast update status`. */
export function updateTold(updates: Updates): UpdateTold {
  const { box, book, slots: environment, progress, lock } = updates;
  const { phase } = book;
  const versionIn = (slot: Slot): string | null => (slot === box.slot ? box.image.version : book.proven[slot]);
  return {
    ...{ slot: box.slot, version: box.image.version, testKey: box.image.testKey, phase: phase.kind },
    slots: slots.map((slot) => ({
      ...{ slot, running: slot === box.slot, version: versionIn(slot) },
      ...{ good: environment.ok[slot], tries: environment.tries[slot] },
    })),
    says: sentence(phase, updates),
    sinceMs: "sinceMs" in phase ? phase.sinceMs : "atMs" in phase ? phase.atMs : null,
    percent: progress?.percent ?? null,
    ...{ refused: book.refused, lastRollback: book.lastRollback, lock },
  };
}

function sentence(phase: UpdatePhase, { progress, waitsFor, lacks }: Updates): string {
  switch (phase.kind) {
    case "idle":
      return "no update is under way";
    case "installing":
      return `version ${phase.version} is being written into slot ${phase.target}${progress === null ? "" : `: ${progress.step}`}`;
    case "installed":
      return `version ${phase.version} is in slot ${phase.target} and waits for a restart${waitsFor === null ? "" : `: ${waitsFor}`}`;
    case "trial":
      return `version ${phase.version} is on trial in slot ${phase.target}, start ${phase.starts}${lacks === null ? "" : `; not good now: ${lacks}`}`;
    case "good":
      return `version ${phase.version} has proven itself in slot ${phase.slot}`;
    case "failed":
      return `version ${phase.version} failed (${phase.stage}): ${phase.reason}`;
  }
}
