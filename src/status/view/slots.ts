// SPDX-License-Identifier: Apache-2.0
/**
 * Slots, update and lock of a box, for the system page; and what can be asked of the box itself, as forms.
 */
import { roleAllows, type VerbArguments, type VerbName, verbRoles } from "#verbs.ts";
import type { View } from "../page.ts";
import type { SlotTold, Told, UpdateTold } from "../told.ts";
import { badge } from "./badge.ts";
import { ago, plural, when } from "./format.ts";
import { type Html, html, nothing } from "./html.ts";
import type { Viewer } from "./layout.ts";

/** What a button asks of the box. `effect` is said before it is done. */
export type BoxAct = {
  readonly verb: VerbName;
  readonly args: VerbArguments;
  readonly word: string;
  readonly effect: string;
  /** Whether it makes sense now. */
  readonly fits: (told: Told) => boolean;
};

const lockOf = ({ update }: Told): UpdateTold["lock"] => (update.known ? update.value.lock : null);

export const boxActs: Readonly<Record<string, BoxAct>> = {
  hold: {
    ...{ verb: "maintenance", args: { on: true }, word: "Hold updates back" },
    effect: "No update is installed, and none that is installed is started, until somebody lets updates go.",
    fits: (told) => told.boxVerbs.includes("maintenance") && lockOf(told) === null,
  },
  release: {
    ...{ verb: "maintenance", args: { on: false }, word: "Let updates go" },
    effect: "An update that waits is started at once: the box then restarts.",
    fits: (told) => lockOf(told) !== null,
  },
  reboot: {
    ...{ verb: "reboot", args: {}, word: "Restart the box" },
    effect: "All workloads end and are started again with the box.",
    fits: (told) => told.boxVerbs.includes("reboot"),
  },
  rollback: {
    ...{ verb: "update.rollback", args: {}, word: "Go back to the other version" },
    effect: "The box restarts into the other slot. The version that runs now is refused from then on.",
    fits: (told) => told.boxVerbs.includes("update.rollback"),
  },
  reset: {
    ...{ verb: "wipe", args: {}, word: "Factory reset" },
    effect:
      "The box restarts and erases all that is on it: records, checkpoints, accounts, trusted keys. Its name, its certificate and its two versions stay. This cannot be undone: take a backup first.",
    fits: (told) => told.boxVerbs.includes("wipe"),
  },
};

/** A button for each act that fits now; those that the role does not allow are named. */
export function boxForms(told: Told, { role }: Pick<Viewer, "role">): Html {
  const fitting = Object.entries(boxActs).filter(([, act]) => act.fits(told));
  return html`${fitting.map(([name, { word, verb }]) =>
    roleAllows(role as never, verbRoles[verb])
      ? html`<form method="get" action="/actions/box" class="inline"><input type="hidden" name="act" value="${name}"><button type="submit">${word}</button></form>`
      : html`<p class="soft">${word}: needs the role ${verbRoles[verb]}.</p>`,
  )}`;
}

export function slotsPart({ told, nowMs }: View): Html {
  const { update } = told;
  const words = update.known
    ? updateWords(update.value, nowMs)
    : html`<p class="empty">Not available: ${update.why}.</p>`;
  return html`<h2>Slots and updates</h2>${words}`;
}

function updateWords(update: UpdateTold, nowMs: number): Html {
  const { slots, says, sinceMs, percent, refused, lastRollback, testKey } = update;
  return html`<table class="list"><thead><tr><th scope="col">Slot</th><th scope="col">Version</th><th scope="col">State</th></tr></thead><tbody>${slots.map(slotRow)}</tbody></table>
<p>${updateBadge(update)} ${says}${percent === null ? "" : `, ${Math.round(percent)} %`}${sinceMs === null ? nothing : html` (${ago(sinceMs, nowMs)})`}</p>${
    lastRollback === null
      ? nothing
      : html`<p><strong>Last rollback</strong> ${when(lastRollback.atMs)}: version ${lastRollback.version}: ${lastRollback.reason}</p>`
  }${
    refused.length === 0
      ? nothing
      : html`<ul class="why">${refused.map(({ version, reason }) => html`<li>Version <strong>${version}</strong> is refused: ${reason}</li>`)}</ul>`
  }${testKey ? html`<p class="soft">This image believes a test key: anybody may have it. Not for the field.</p>` : nothing}`;
}

function slotRow({ slot, running, version, good, tries }: SlotTold): Html {
  const state = good ? badge("good", "good") : badge("warn", "given up");
  const count = good && tries > 0 ? ` ${plural(tries, "start")} not proven yet` : "";
  return html`<tr><th scope="row">${slot}${running ? " (runs)" : ""}</th><td>${version ?? "none that has proven itself"}</td><td>${state}${count}</td></tr>`;
}

function updateBadge({ phase }: UpdateTold): Html {
  if (phase === "failed") return badge("bad", "failed");
  if (phase === "idle" || phase === "good") return badge("good", phase === "good" ? "kept" : "none");
  return badge("note", phase);
}
