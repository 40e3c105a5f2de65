// SPDX-License-Identifier: Apache-2.0
/**
 * Plain forms, each bound to the login by its token: they work without script. Gets what is asked for; gives HTML.
 */
import { type Role, roleAllows, type VerbName, verbRoles } from "#verbs.ts";
import { type Html, html } from "./html.ts";
import type { Viewer } from "./layout.ts";

/** What a button of a verb says. */
export const verbWords: Readonly<Partial<{ [Name in VerbName]: string }>> = {
  "workload.restart": "Restart",
  "workload.hold": "Hold down",
  "workload.release": "Start again",
  "guest.checkpoint": "Checkpoint",
  "guest.restore": "Restore",
  "suppression.off": "Stop suppressing",
  "suppression.on": "Suppress again",
  maintenance: "Maintenance",
  reboot: "Restart the box",
  "update.install": "Update from a file",
  "update.rollback": "Go back to the other version",
  wipe: "Factory reset",
};

export const tokenField = (viewer: Viewer): Html => html`<input type="hidden" name="csrf" value="${viewer.csrf}">`;

/** The first step of an act: a page that says what it does, and asks. */
export function verbForm(verb: VerbName, workload: string, viewer: Viewer): Html {
  const word = verbWords[verb] ?? verb;
  if (!roleAllows(viewer.role as Role, verbRoles[verb])) {
    return html`<p class="soft">${word}: needs the role ${verbRoles[verb]}.</p>`;
  }
  return html`<form method="get" action="/actions/confirm" class="inline"><input type="hidden" name="verb" value="${verb}"><input type="hidden" name="workload" value="${workload}"><button type="submit">${word}</button></form>`;
}
