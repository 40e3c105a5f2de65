// SPDX-License-Identifier: Apache-2.0
/**
 * What can be done: a page of buttons, a page that asks once more, and the act itself. Roles are checked at the act.
 */
import { Hono } from "hono";
import { isVerbName, roleAllows, type VerbName, verbRoles } from "#verbs.ts";
import { makeBackup } from "../model/backup.ts";
import { bundleFiles, makeBundle } from "../model/bundle.ts";
import { worstFirst } from "../model/workloads.ts";
import type { Job } from "../page.ts";
import { limits } from "../settings.ts";
import { type Ask, mayAct, pageAnswer, viewerOf, type Web } from "../web.ts";
import { badge } from "./badge.ts";
import { when } from "./format.ts";
import { tokenField, verbForm, verbWords } from "./forms.ts";
import { freshField, isFresh } from "./freshness.ts";
import { type Html, html, nothing } from "./html.ts";
import { isOwnForm, readForm } from "./loginRoutes.ts";
import { pairs } from "./pairs.ts";
import { boxActs, boxForms } from "./slots.ts";
import { addUploadRoutes } from "./uploadRoutes.ts";

const effects: Readonly<Partial<{ [Name in VerbName]: string }>> = {
  "workload.restart": "All its sessions end, and it starts again.",
  "workload.hold": "It is stopped and stays down until somebody starts it again.",
  "workload.release": "It is started again.",
  "guest.checkpoint": "Its memory and disks are kept as they are now; it stands still for a moment.",
  "guest.restore": "It goes back to its last good checkpoint: what it did since then is lost, and its sessions end.",
  "suppression.off":
    "From now on a fatal fault ends it, as if nobody watched. It is on again after a restart of Holdfast.",
  "suppression.on": "Fatal faults of it are met again.",
};

export function actionRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  app.get("/actions", (c) => pageAnswer(c, "Actions", actionsPage(c)));
  app.get("/actions/confirm", confirm);
  app.post("/actions/do", act);
  app.get("/actions/box", confirmBox);
  app.post("/actions/box", actOnBox);
  app.get("/actions/bundle", (c) => pageAnswer(c, "Diagnostics", bundlePage(c), { live: false }));
  app.post("/actions/bundle", bundle);
  app.get("/actions/backup", (c) => pageAnswer(c, "Backup", backupPage(c), { live: false }));
  app.post("/actions/backup", backup);
  addUploadRoutes(app);
  return app;
}

function actionsPage(c: Ask): Html {
  const { view, jobs } = c.get("page");
  const viewer = viewerOf(c)!;
  const askable = worstFirst(view.workloads).flatMap(({ told }) => (told.verbs.length > 0 ? [told] : []));
  const workloads = askable.slice(0, limits.workloadsToAskMax);
  return html`<h1>Actions</h1>
<section aria-labelledby="workloads"><h2 id="workloads">Workloads</h2>${
    workloads.length === 0
      ? html`<p class="empty">Nothing can be asked of the workloads here: a program under <code>holdfast guard</code> is started and ended from its own terminal or service.</p>`
      : workloads.map(
          ({ name, verbs }) =>
            html`<h3>${name}</h3><div class="buttons">${verbs.map((verb) => verbForm(verb, name, viewer))}</div>`,
        )
  }${
    askable.length > workloads.length
      ? html`<p class="more">Others on their own pages: <a href="/workloads">all workloads</a></p>`
      : nothing
  }</section>
<section aria-labelledby="box"><h2 id="box">This box</h2><div class="buttons"><a class="button" href="/actions/bundle">Diagnostics bundle</a><a class="button" href="/actions/backup">Backup of the record</a>${view.told.boxVerbs.includes("update.install") ? html`<a class="button" href="/actions/update">Update from a file</a>` : nothing}${boxForms(view.told, viewer)}</div></section>
<section aria-labelledby="jobs"><h2 id="jobs">What was asked for</h2><div data-part="jobs">${jobTable(jobs)}</div></section>`;
}

function jobTable(jobs: readonly Job[]): Html {
  if (jobs.length === 0) return html`<p class="empty">Nothing since the supervisor started.</p>`;
  const tones = { running: "note", succeeded: "good", failed: "bad", cancelled: "dim" } as const;
  return html`<table class="list"><thead><tr><th scope="col">Time</th><th scope="col">Asked for</th><th scope="col" class="wide">By</th><th scope="col">State</th></tr></thead><tbody>${jobs.map(
    (job) =>
      html`<tr><td class="time">${when(job.atMs)}</td><th scope="row">${verbWords[job.verb] ?? job.verb} ${job.workload}</th><td class="wide">${job.by}</td><td>${badge(tones[job.state], job.state)}<span class="soft">${job.why}</span></td></tr>`,
  )}</tbody></table>`;
}

function confirm(c: Ask): Response {
  const verb = c.req.query("verb") ?? "";
  const workload = c.req.query("workload") ?? "";
  const line = c.get("page").view.told.workloads.find(({ name }) => name === workload);
  if (!isVerbName(verb) || line === undefined || !line.verbs.includes(verb))
    return refuse(c, "That cannot be asked for now.", 409);
  if (!roleAllows(viewerOf(c)!.role as never, verbRoles[verb]))
    return refuse(c, `It needs the role ${verbRoles[verb]}.`, 403);
  const word = verbWords[verb] ?? verb;
  return pageAnswer(
    c,
    word,
    html`<h1>${word}: ${workload}?</h1><p>${effects[verb] ?? ""}</p><form method="post" action="/actions/do" class="card">${tokenField(viewerOf(c)!)}<input type="hidden" name="verb" value="${verb}"><input type="hidden" name="workload" value="${workload}"><input type="hidden" name="once" value="${crypto.randomUUID()}">${freshField(c)}<div class="buttons"><button type="submit" class="danger">${word}</button><a class="button" href="/actions">No, go back</a></div></form>`,
    { live: false },
  );
}

/** The same two steps, for what is asked of the box itself. */
function confirmBox(c: Ask): Response {
  const name = c.req.query("act") ?? "";
  const act = Object.hasOwn(boxActs, name) ? boxActs[name] : undefined;
  if (act === undefined || !act.fits(c.get("page").view.told)) return refuse(c, "That cannot be asked for now.", 409);
  if (!mayAct(c, verbRoles[act.verb])) return refuse(c, `It needs the role ${verbRoles[act.verb]}.`, 403);
  const { word, effect } = act;
  return pageAnswer(
    c,
    word,
    html`<h1>${word}?</h1><p>${effect}</p><form method="post" action="/actions/box" class="card">${tokenField(viewerOf(c)!)}<input type="hidden" name="act" value="${name}"><input type="hidden" name="once" value="${crypto.randomUUID()}">${freshField(c)}<div class="buttons"><button type="submit" class="danger">${word}</button><a class="button" href="/actions">No, go back</a></div></form>`,
    { live: false },
  );
}

async function actOnBox(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, "The form is not from this login.", 403);
  const { act: name = "" } = form;
  const page = c.get("page");
  const act = Object.hasOwn(boxActs, name) ? boxActs[name] : undefined;
  if (act === undefined || !act.fits(page.view.told)) return refuse(c, "That cannot be asked for now.", 409);
  if (!mayAct(c, verbRoles[act.verb])) return refuse(c, `It needs the role ${verbRoles[act.verb]}.`, 403);
  if (!(await isFresh(c, form))) return refuse(c, "The password is not right.", 403);
  const asker = c.get("asker")!;
  const once = /^[\w-]{8,64}$/.exec(form.once ?? "")?.[0];
  page.ask(act.verb, "", { name: asker.name, role: asker.role, from: c.env.from }, once, act.args);
  return c.redirect("/actions", 303);
}

async function act(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, "The form is not from this login.", 403);
  const { verb = "", workload = "" } = form;
  const page = c.get("page");
  const line = page.view.told.workloads.find(({ name }) => name === workload);
  if (!isVerbName(verb) || line === undefined || !line.verbs.includes(verb))
    return refuse(c, "That cannot be asked for now.", 409);
  if (!mayAct(c, verbRoles[verb])) return refuse(c, `It needs the role ${verbRoles[verb]}.`, 403);
  if (!(await isFresh(c, form))) return refuse(c, "The password is not right.", 403);
  const asker = c.get("asker")!;
  const once = /^[\w-]{8,64}$/.exec(form.once ?? "")?.[0];
  page.ask(verb, workload, { name: asker.name, role: asker.role, from: c.env.from }, once);
  return c.redirect("/actions", 303);
}

function bundlePage(c: Ask): Html {
  const viewer = viewerOf(c)!;
  const admin = mayAct(c, "admin");
  return html`<h1>Diagnostics bundle</h1><p>One file to send to whoever helps you. Secrets are taken out, and it has at most ${limits.bundleBytesMax >> 20} MiB.</p><details><summary>What is in it</summary>${pairs(bundleFiles)}</details><form method="post" action="/actions/bundle" class="card">${tokenField(viewer)}<label class="check"><input type="checkbox" name="clients" value="hide" checked> Hide the addresses of clients</label>${
    admin
      ? html`<label class="check"><input type="checkbox" name="memory" value="yes"> With registers and stack memory of faults: this can hold data of users</label>`
      : html`<p class="soft">Registers and stack memory are left out: only an admin can add them.</p>`
  }<button type="submit" class="main">Download</button></form>`;
}

async function bundle(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, "The form is not from this login.", 403);
  const memory = form.memory === "yes" && mayAct(c, "admin");
  const page = c.get("page");
  const made = await makeBundle(page, { memory, clients: form.clients === "hide" });
  page.audit("page.bundle", c.get("asker")!.name, c.env.from, { memory });
  return download(made);
}

function backupPage(c: Ask): Html {
  const words = html`<h1>Backup of the record</h1><p>All faults with their stacks and registers, all events, and what waits for the fleet, as <code>holdfast storage restore</code> takes it. It can hold data of users: keep it as you keep those.</p>`;
  if (!mayAct(c, "admin")) return html`${words}<p class="soft">It needs the role admin.</p>`;
  return html`${words}<form method="post" action="/actions/backup" class="card">${tokenField(viewerOf(c)!)}${freshField(c)}<button type="submit" class="main">Download</button></form>`;
}

async function backup(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, "The form is not from this login.", 403);
  if (!mayAct(c, "admin")) return refuse(c, "It needs the role admin.", 403);
  if (!(await isFresh(c, form))) return refuse(c, "The password is not right.", 403);
  const page = c.get("page");
  page.audit("page.backup", c.get("asker")!.name, c.env.from);
  return download(makeBackup(page.directory, page.clock.wallMs()));
}

const download = ({ name, bytes }: { name: string; bytes: Uint8Array<ArrayBuffer> }): Response =>
  new Response(bytes, {
    headers: {
      "content-type": "application/gzip",
      "content-disposition": `attachment; filename="${name}"`,
      "cache-control": "no-store",
    },
  });

const refuse = (c: Ask, why: string, status: 403 | 409): Response =>
  pageAnswer(c, "Not done", html`<h1>Not done</h1><p class="error">${why}</p><p><a href="/actions">Actions</a></p>`, {
    status,
    live: false,
  });
