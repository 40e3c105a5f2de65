// SPDX-License-Identifier: Apache-2.0
/**
 * The words of the page, explained once, in the same place on every page (WCAG 3.2.6).
 */
import { type Html, html } from "./html.ts";

const words: readonly (readonly [string, string])[] = [
  ["Fault", "A fatal signal, or a hang, of a guarded program. Only the thread that faulted is stopped."],
  ["Abandoned", "The part of the stack that was given up: its caller went on as if it had returned an error."],
  ["Cut", "The connection of the client whose request faulted was closed, because the evidence named it."],
  ["Survived", "The same process serves on, and probation found nothing wrong."],
  ["Degraded", "It serves on, but a value may be wrong, or a thread or a lock was given up."],
  ["Failed", "The act did not hold. The next rung's turn comes with the next fault."],
  ["Passed on", "The signal was the program's own affair, and was delivered to it."],
  ["On trial", "For up to two seconds after an act it is watched; only then is there a verdict."],
  ["Spine", "The frames that are on a thread's stack while it waits for work. They are never abandoned."],
  ["Stop", "How long the one thread stood still. All others ran on."],
  ["Protected", "A fault would be met now."],
];

export const helpPage =
  (): Html => html`<h1>Help</h1><dl class="pairs">${words.map(([word, meaning]) => html`<dt>${word}</dt><dd>${meaning}</dd>`)}</dl>
<h2>From a terminal on the box</h2><p><code>holdfast faults</code> lists what happened, <code>holdfast show ID</code> shows one fault, <code>holdfast doctor</code> says what this machine can do. For scripts there is a <a href="/api/v1/openapi.json">JSON interface</a>; tokens are made under <a href="/account">your account</a>.</p>
<h2>No way in</h2><p>Somebody who can write to the state directory makes a new admin: put a code of at least ten characters into <code>page/claim</code> there, then open <code>/claim</code>.</p>`;
