// SPDX-License-Identifier: Apache-2.0
/**
 * One's own account: password, logins, theme, log out; and for admins: accounts and tokens. Plain forms, each with its token.
 */
import { Hono } from "hono";
import { StatusError } from "#errors.ts";
import { type Role, roles } from "#verbs.ts";
import { limits } from "../settings.ts";
import { type Ask, mayAct, pageAnswer, viewerOf, type Web } from "../web.ts";
import { when } from "./format.ts";
import { tokenField } from "./forms.ts";
import { isFresh } from "./freshness.ts";
import { type Html, html, nothing } from "./html.ts";
import { begin, type Cookie, isOwnForm, readForm } from "./loginRoutes.ts";

const dayMs = 24 * 3_600_000;
const tokenDaysMax = 730;
const roleWords: Readonly<{ [Name in Role]: string }> = { view: "viewer", operate: "operator", admin: "admin" };

type Form = Readonly<Record<string, string>>;

export function accountRoutes(cookie: Cookie): Hono<Web> {
  const app = new Hono<Web>();
  app.get("/account", (c) => pageAnswer(c, "Account", accountPage(c, "", ""), { live: false }));
  app.post("/account/password", (c) => change(c, "view", (form) => ownPassword(c, form, cookie)));
  app.post("/account/logins/end", (c) => change(c, "view", (form) => endLogin(c, form)));
  app.post("/account/put", (c) => change(c, "admin", (form) => putAccount(c, form)));
  app.post("/account/remove", (c) => change(c, "admin", (form) => removeAccount(c, form)));
  app.post("/account/token", (c) => change(c, "admin", (form) => grantToken(c, form)));
  app.post("/account/revoke", (c) => change(c, "admin", (form) => revokeToken(c, form)));
  return app;
}

/** One change: own form, role, password given lately; a refusal is said beside the forms. */
async function change(c: Ask, role: Role, act: (form: Form) => Promise<string> | string): Promise<Response> {
  const form = await readForm(c);
  const answer = (status: 200 | 403 | 409, error: string, done = ""): Response =>
    pageAnswer(c, "Account", accountPage(c, error, done), { status, live: false });
  if (!isOwnForm(c, form)) return answer(403, "The form is not from this login.");
  if (!mayAct(c, role)) return answer(403, `This needs the role ${roleWords[role]}.`);
  if (!(await isFresh(c, form)))
    return answer(
      403,
      "Give your current password with it: it was given longer than five minutes ago, or is not right.",
    );
  try {
    return answer(200, "", await act(form));
  } catch (error) {
    if (error instanceof StatusError) return answer(409, `${error.message}.`);
    throw error;
  }
}

async function ownPassword(c: Ask, form: Form, cookie: Cookie): Promise<string> {
  const page = c.get("page");
  const asker = c.get("asker")!;
  if ((await page.accounts.verify(asker.name, form.password ?? "")) === null)
    throw new StatusError("status.refused", "Your current password is not right");
  await page.accounts.put(asker.name, asker.role, form.fresh ?? "");
  page.logins.endOf(asker.name);
  begin(c, cookie, page.logins.begin(asker.name, asker.role, c.env.from));
  page.audit("page.password", asker.name, c.env.from);
  return "The password is changed; all other logins of yours have ended. Open any page to go on.";
}

function endLogin(c: Ask, form: Form): string {
  const page = c.get("page");
  const login = page.logins.list.find((each) => each.id === form.id);
  const own = login?.name === c.get("asker")!.name;
  if (login === undefined || !(own || mayAct(c, "admin")))
    throw new StatusError("status.refused", "There is no such login");
  page.logins.end(login.id);
  return "That login has ended.";
}

async function putAccount(c: Ask, form: Form): Promise<string> {
  const page = c.get("page");
  const role = readRole(form.role);
  const name = (form.name ?? "").trim();
  await page.accounts.put(name, role, form.fresh ?? "");
  page.logins.endOf(name);
  page.audit("page.account", c.get("asker")!.name, c.env.from, { account: name, role });
  return `${name} is ${roleWords[role]} now.`;
}

function removeAccount(c: Ask, form: Form): string {
  const page = c.get("page");
  page.accounts.remove(form.name ?? "");
  page.logins.endOf(form.name ?? "");
  page.audit("page.accountRemoved", c.get("asker")!.name, c.env.from, { account: form.name ?? "" });
  return `${form.name} is removed.`;
}

function grantToken(c: Ask, form: Form): string {
  const page = c.get("page");
  const days = Number(form.days);
  if (!Number.isInteger(days) || days < 1 || days > tokenDaysMax)
    throw new StatusError("status.refused", `A token lasts 1 to ${tokenDaysMax} days`);
  const role = readRole(form.role);
  const secret = page.accounts.grant(form.label ?? "", role, page.clock.wallMs() + days * dayMs);
  page.audit("page.token", c.get("asker")!.name, c.env.from, { label: (form.label ?? "").slice(0, 64), role, days });
  return `The token, shown this once: ${secret}`;
}

function revokeToken(c: Ask, form: Form): string {
  c.get("page").accounts.revoke(form.id ?? "");
  c.get("page").audit("page.tokenRevoked", c.get("asker")!.name, c.env.from, { id: (form.id ?? "").slice(0, 16) });
  return "The token is revoked.";
}

function readRole(text: string | undefined): Role {
  const role = roles.find((each) => each === text);
  if (role === undefined) throw new StatusError("status.refused", `A role is one of ${roles.join(", ")}`);
  return role;
}

function accountPage(c: Ask, error: string, done: string): Html {
  const viewer = viewerOf(c)!;
  const page = c.get("page");
  const asker = c.get("asker")!;
  const own = page.logins.list.filter((login) => login.name === asker.name);
  const current = html`<label for="current-a">Current password</label><input id="current-a" name="password" type="password" autocomplete="current-password" required maxlength="256">`;
  return html`<h1>Account</h1>${error === "" ? nothing : html`<p class="error" role="alert">${error}</p>`}${done === "" ? nothing : html`<p class="done" role="status">${done}</p>`}
<p>You are <strong>${viewer.name}</strong>, ${roleWords[asker.role]}.</p>
<div class="buttons"><form method="post" action="/logout" class="inline">${tokenField(viewer)}<button type="submit">Log out</button></form>${(
    ["auto", "light", "dark"] as const
  ).map(
    (theme) =>
      html`<form method="post" action="/theme" class="inline"><input type="hidden" name="theme" value="${theme}"><button type="submit" class="quiet">${theme === "auto" ? "Theme of this device" : theme === "light" ? "Light" : "Dark"}</button></form>`,
  )}</div>
<section aria-labelledby="password-title"><h2 id="password-title">Password</h2><form method="post" action="/account/password" class="card">${tokenField(viewer)}${current}<label for="fresh">New password, at least ${limits.passwordLeast} characters</label><input id="fresh" name="fresh" type="password" autocomplete="new-password" required minlength="${limits.passwordLeast}" maxlength="256"><button type="submit">Change</button></form></section>
<section aria-labelledby="logins"><h2 id="logins">Your logins</h2><ul class="plain">${own.map(
    (login) =>
      html`<li>${when(login.beganMs)} from ${login.from}${login.csrf === viewer.csrf ? " (this one)" : html` <form method="post" action="/account/logins/end" class="inline">${tokenField(viewer)}<input type="hidden" name="id" value="${login.id}"><button type="submit" class="quiet">End</button></form>`}</li>`,
  )}</ul></section>
${asker.role === "admin" ? adminPart(c) : nothing}`;
}

function adminPart(c: Ask): Html {
  const viewer = viewerOf(c)!;
  const { accounts, logins } = c.get("page");
  const asker = c.get("asker")!;
  const fresh = asker.kind === "login" && logins.isFresh(asker.login);
  const again = (id: string): Html =>
    fresh
      ? nothing
      : html`<label for="${id}">Your current password</label><input id="${id}" name="password" type="password" autocomplete="current-password" required maxlength="256">`;
  const roleChoice = (id: string): Html =>
    html`<label for="${id}">Role</label><select id="${id}" name="role">${roles.map((role) => html`<option value="${role}">${roleWords[role]}</option>`)}</select>`;
  return html`<section aria-labelledby="accounts"><h2 id="accounts">Accounts</h2><ul class="plain">${accounts.list.map(
    ({ name, role }) =>
      html`<li><strong>${name}</strong>, ${roleWords[role]}${name === viewer.name || !fresh ? nothing : html` <form method="post" action="/account/remove" class="inline">${tokenField(viewer)}<input type="hidden" name="name" value="${name}"><button type="submit" class="quiet">Remove ${name}</button></form>`}</li>`,
  )}</ul><form method="post" action="/account/put" class="card"><h3>New account, or a new password and role for one</h3>${tokenField(viewer)}<label for="put-name">Name</label><input id="put-name" name="name" autocomplete="off" autocapitalize="off" required maxlength="32">${roleChoice("put-role")}<label for="put-fresh">Password</label><input id="put-fresh" name="fresh" type="password" autocomplete="new-password" required minlength="${limits.passwordLeast}" maxlength="256">${again("put-again")}<button type="submit">Save</button></form></section>
<section aria-labelledby="tokens"><h2 id="tokens">Tokens for scripts</h2><ul class="plain">${accounts.tokens.map(
    ({ id, label, role, endsMs }) =>
      html`<li><strong>${label}</strong>, ${roleWords[role]}, until ${when(endsMs)} ${fresh ? html`<form method="post" action="/account/revoke" class="inline">${tokenField(viewer)}<input type="hidden" name="id" value="${id}"><button type="submit" class="quiet">Revoke ${label}</button></form>` : nothing}</li>`,
  )}</ul><form method="post" action="/account/token" class="card"><h3>New token</h3>${tokenField(viewer)}<label for="token-label">What for</label><input id="token-label" name="label" required maxlength="64">${roleChoice("token-role")}<label for="token-days">Days</label><input id="token-days" name="days" type="number" min="1" max="${tokenDaysMax}" value="90" required>${again("token-again")}<button type="submit">Make a token</button></form></section>`;
}
