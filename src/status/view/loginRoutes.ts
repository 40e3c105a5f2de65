// SPDX-License-Identifier: Apache-2.0
/**
 * Claim, login, logout, theme: what can be done before a login. Plain forms. Wrong tries are counted and slowed.
 */
import { Hono } from "hono";
import { StatusError } from "#errors.ts";
import { namePattern } from "../access/accounts.ts";
import { sameToken } from "../access/logins.ts";
import { limits } from "../settings.ts";
import { type Ask, pageAnswer, type Web } from "../web.ts";
import { type Html, html, nothing } from "./html.ts";

export type Cookie = { readonly name: string; readonly secure: boolean };

const yearSeconds = 365 * 24 * 3_600;

export function loginRoutes(cookie: Cookie): Hono<Web> {
  const app = new Hono<Web>();
  app.get("/login", (c) => {
    if (c.get("asker")?.kind === "login") return c.redirect("/", 303);
    return pageAnswer(c, "Log in", loginForm(c, ""), { live: false });
  });
  app.post("/login", (c) => login(c, cookie));
  app.get("/claim", (c) => pageAnswer(c, "Claim this box", claimForm(c, ""), { live: false }));
  app.post("/claim", (c) => claim(c, cookie));
  app.post("/logout", (c) => logout(c, cookie));
  app.post("/theme", theme);
  return app;
}

export async function readForm(c: Ask): Promise<Readonly<Record<string, string>>> {
  const type = c.req.header("content-type") ?? "";
  if (!type.startsWith("application/x-www-form-urlencoded")) return {};
  const text = await c.req.text();
  return text.length > limits.bodyBytesMax ? {} : Object.fromEntries(new URLSearchParams(text));
}

/** Whether a form has the token of its login. */
export function isOwnForm(c: Ask, form: Readonly<Record<string, string>>): boolean {
  const asker = c.get("asker");
  return asker?.kind === "login" && sameToken(form.csrf ?? "", asker.login.csrf);
}

export function begin(c: Ask, cookie: Cookie, secret: string): void {
  const secure = cookie.secure ? "; Secure" : "";
  c.header("set-cookie", `${cookie.name}=${secret}; Path=/; HttpOnly; SameSite=Strict${secure}`);
}

async function login(c: Ask, cookie: Cookie): Promise<Response> {
  const page = c.get("page");
  const { from } = c.env;
  const form = await readForm(c);
  const waitSeconds = page.tries.waitSeconds(from);
  if (waitSeconds > 0) {
    c.header("retry-after", String(waitSeconds));
    return pageAnswer(
      c,
      "Log in",
      loginForm(c, `Too many wrong passwords. Try again in ${Math.ceil(waitSeconds / 60)} minutes.`),
      { status: 429, live: false },
    );
  }
  // Counted before the password is looked at: many tries at once are many tries.
  page.tries.wrong(from);
  const account = await page.accounts.verify((form.name ?? "").trim(), form.password ?? "");
  if (account === null) {
    await page.clock.sleep(page.tries.delayMs(from));
    page.audit("page.loginRefused", (form.name ?? "").slice(0, 32), from);
    return pageAnswer(c, "Log in", loginForm(c, "The name or the password is not right.", form.name), {
      status: 401,
      live: false,
    });
  }
  page.tries.right(from);
  begin(c, cookie, page.logins.begin(account.name, account.role, from));
  page.audit("page.login", account.name, from, { role: account.role });
  return c.redirect("/", 303);
}

async function claim(c: Ask, cookie: Cookie): Promise<Response> {
  const page = c.get("page");
  const { from } = c.env;
  const form = await readForm(c);
  const refuse = (why: string, status: 400 | 403 | 429): Response =>
    pageAnswer(c, "Claim this box", claimForm(c, why, form), { status, live: false });
  const waitSeconds = page.tries.waitSeconds(from);
  if (waitSeconds > 0) return refuse(`Too many wrong codes. Try again in ${Math.ceil(waitSeconds / 60)} minutes.`, 429);
  const name = (form.name ?? "").trim();
  // What can be said about the name and the password is said before the code is used up.
  if (!namePattern.test(name)) return refuse("A name is 1 to 32 letters, digits, . _ or -.", 400);
  if ((form.password ?? "") !== (form.again ?? "")) return refuse("The two passwords differ.", 400);
  try {
    page.accounts.check(name, form.password ?? "");
  } catch (error) {
    if (error instanceof StatusError) return refuse(`${error.message}.`, 400);
    throw error;
  }
  if (!page.claim.use(form.code ?? "")) {
    page.tries.wrong(from);
    await page.clock.sleep(page.tries.delayMs(from));
    page.audit("page.claimRefused", name, from);
    return refuse("The code is not right, or its time is over.", 403);
  }
  await page.accounts.put(name, "admin", form.password!);
  page.logins.endOf(name);
  begin(c, cookie, page.logins.begin(name, "admin", from));
  page.audit("page.claimed", name, from);
  return c.redirect("/", 303);
}

async function logout(c: Ask, cookie: Cookie): Promise<Response> {
  const form = await readForm(c);
  const asker = c.get("asker");
  if (asker?.kind === "login" && isOwnForm(c, form)) {
    c.get("page").logins.end(asker.login.id);
    const secure = cookie.secure ? "; Secure" : "";
    c.header("set-cookie", `${cookie.name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0${secure}`);
  }
  return c.redirect("/login", 303);
}

async function theme(c: Ask): Promise<Response> {
  const form = await readForm(c);
  const wanted = form.theme === "light" || form.theme === "dark" ? form.theme : "auto";
  const seconds = wanted === "auto" ? 0 : yearSeconds;
  c.header("set-cookie", `hf-theme=${wanted}; Path=/; SameSite=Strict; Max-Age=${seconds}`);
  return c.redirect("/account", 303);
}

function loginForm(c: Ask, error: string, name = ""): Html {
  const unclaimed = !c.get("page").accounts.claimed;
  return html`<h1>Log in</h1>${errorLine(error)}<form method="post" action="/login" class="card"><label for="name">Name</label><input id="name" name="name" value="${name}" autocomplete="username" autocapitalize="off" required maxlength="32"><label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required maxlength="256"><button type="submit" class="main">Log in</button></form>${
    unclaimed ? html`<p>Nobody owns this page yet. <a href="/claim">Claim it</a></p>` : nothing
  }`;
}

function claimForm(c: Ask, error: string, form: Readonly<Record<string, string>> = {}): Html {
  const { claim } = c.get("page");
  if (!claim.isOpen) {
    return html`<h1>Claim this box</h1><p>The window for claiming is closed. It opens again with a start of a supervisor that has no admin, or by a claim file in its state directory.</p><p><a href="/login">Log in</a></p>`;
  }
  return html`<h1>Claim this box</h1><p>The supervisor printed a code of ten letters when it started. It makes the first admin, once.</p>${errorLine(error)}<form method="post" action="/claim" class="card"><label for="code">Code from the console</label><input id="code" name="code" value="${form.code ?? ""}" autocomplete="one-time-code" autocapitalize="characters" spellcheck="false" required maxlength="64"><label for="name">Your name</label><input id="name" name="name" value="${form.name ?? "admin"}" autocomplete="username" autocapitalize="off" required maxlength="32"><label for="password">A password of at least ${limits.passwordLeast} characters</label><input id="password" name="password" type="password" autocomplete="new-password" required minlength="${limits.passwordLeast}" maxlength="256"><label for="again">The password again</label><input id="again" name="again" type="password" autocomplete="new-password" required maxlength="256"><button type="submit" class="main">Claim</button></form>`;
}

const errorLine = (error: string): Html => (error === "" ? nothing : html`<p class="error" role="alert">${error}</p>`);
