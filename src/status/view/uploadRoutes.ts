// SPDX-License-Identifier: Apache-2.0
/**
 * An update from a file of the browser's machine: a page to choose it, slices of it, and its installation as a job. For admins
 * of a box with slots. Needs script: without it the page says how the command line does the same.
 */
import type { Hono } from "hono";
import { StatusError } from "#errors.ts";
import { verbRoles } from "#verbs.ts";
import { sameToken } from "../access/logins.ts";
import { uploadBytesMax } from "../model/upload.ts";
import { type Ask, mayAct, pageAnswer, problemAnswer, viewerOf, type Web } from "../web.ts";
import { tokenField } from "./forms.ts";
import { freshField, isFresh } from "./freshness.ts";
import { type Html, html } from "./html.ts";
import { isOwnForm, readForm } from "./loginRoutes.ts";

export function addUploadRoutes(app: Hono<Web>): void {
  app.get("/actions/update", (c) => {
    const why = whyNot(c);
    const body = why === null ? uploadPage(c) : html`<h1>Update from a file</h1><p class="error">${why.words}</p>`;
    return pageAnswer(c, "Update from a file", body, { status: why?.status ?? 200, live: false });
  });
  app.post("/actions/update", begin);
  app.post("/actions/update/slice", take);
  app.post("/actions/update/end", end);
}

function uploadPage(c: Ask): Html {
  return html`<h1>Update from a file</h1><p>A bundle that is signed by a key of this box, for this board, and newer than what runs. It is written into the other slot; the box then restarts into it when no job and no lock forbids it, and comes back by itself where the new version does not prove itself.</p><noscript><p class="error">This needs script. On the box: <code>holdfast update install FILE</code></p></noscript><form method="post" action="/actions/update" class="card" id="bring">${tokenField(viewerOf(c)!)}<label for="file">Bundle</label><input id="file" type="file" accept=".raucb" required>${freshField(c)}<label class="check"><input type="checkbox" name="older" value="yes"> Also a version that is not newer</label><div class="buttons"><button type="submit" class="danger">Install</button><a class="button" href="/actions">No, go back</a></div><p id="bring-text" role="status"></p></form>`;
}

async function begin(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, 403, "The form is not from this login.");
  const why = whyNot(c);
  if (why !== null) return refuse(c, why.status, why.words);
  if (!(await isFresh(c, form))) return refuse(c, 403, "The password is not right.");
  if (form.size === undefined)
    return refuse(c, 409, "Bringing a file needs script. On the box: holdfast update install FILE");
  const size = /^\d{1,12}$/.test(form.size) ? Number(form.size) : uploadBytesMax + 1;
  return trying(c, () => ({ id: c.get("page").upload.begin(size) }));
}

async function take(c: Ask): Promise<Response> {
  const asker = c.get("asker");
  if (asker?.kind !== "login" || !sameToken(c.req.header("x-csrf-token") ?? "", asker.login.csrf))
    return refuse(c, 403, "The slice is not from this login.");
  const why = whyNot(c);
  if (why !== null) return refuse(c, why.status, why.words);
  const { id = "", offset = "" } = c.req.query();
  if (!/^\d{1,12}$/.test(offset)) return refuse(c, 400, "A slice has an offset.");
  const slice = new Uint8Array(await c.req.arrayBuffer());
  return trying(c, () => ({ have: c.get("page").upload.put(id, Number(offset), slice) }));
}

async function end(c: Ask): Promise<Response> {
  const form = await readForm(c);
  if (!isOwnForm(c, form)) return refuse(c, 403, "The form is not from this login.");
  const why = whyNot(c);
  if (why !== null) return refuse(c, why.status, why.words);
  const page = c.get("page");
  const { name, role } = c.get("asker")!;
  return trying(c, () => {
    page.upload.end(form.id ?? "");
    const args = { uploaded: true, older: form.older === "yes" };
    const { id } = page.ask("update.install", "", { name, role, from: c.env.from }, undefined, args);
    return { job: id };
  });
}

function whyNot(c: Ask): { readonly status: 403 | 409; readonly words: string } | null {
  if (!mayAct(c, verbRoles["update.install"])) return { status: 403, words: "It needs the role admin." };
  if (c.get("page").view.told.boxVerbs.includes("update.install")) return null;
  return {
    status: 409,
    words: "This box takes no update now: it has no slots, one is under way, or they are held back.",
  };
}

function trying(c: Ask, act: () => object): Response {
  try {
    return c.json(act(), 200, { "cache-control": "no-store" });
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    return refuse(c, 409, `It was not taken: ${error.message}.`);
  }
}

const refuse = (c: Ask, status: 400 | 403 | 409, why: string): Response =>
  problemAnswer(c, status, "Not done", why, "See Actions.");
