// SPDX-License-Identifier: Apache-2.0
/**
 * The web application of the page: gate, limits, who asks, and then the routes. Gets a Page; gives a `fetch`.
 *
 *     host name ─▶ rate ─▶ cookie or token ─▶ own origin (changes) ─▶ route ─▶ safe headers
 */
import { Hono } from "hono";
import { explain, HoldfastError } from "#errors.ts";
import { isOurHost, isOwnOrigin, safeHeaders } from "./access/gate.ts";
import { healthRoutes } from "./api/health.ts";
import { apiRoutes } from "./api/routes.ts";
import type { Page } from "./page.ts";
import { accountRoutes } from "./view/accountRoutes.ts";
import { actionRoutes } from "./view/actionRoutes.ts";
import { assetRoutes } from "./view/assetRoutes.ts";
import { html } from "./view/html.ts";
import { loginRoutes } from "./view/loginRoutes.ts";
import { pageRoutes } from "./view/pageRoutes.ts";
import { type Ask, type Asker, pageAnswer, problemAnswer, type Web } from "./web.ts";

const changes = new Set(["POST", "PUT", "PATCH", "DELETE"]);

/** One cookie for each page: cookies of one address are shared by all its ports. */
export const cookieName = (port: number, secure: boolean): string => (secure ? `__Host-hf-${port}` : `hf-${port}`);

export function openApp(page: Page, cookie: { readonly name: string; readonly secure: boolean }): Hono<Web> {
  const app = new Hono<Web>({ strict: true });
  app.use(async (c, next) => {
    c.set("page", page);
    c.set("asker", null);
    const refused = gate(c, page, cookie.name);
    if (refused === null) await next();
    else c.res = refused;
    for (const [name, value] of Object.entries(safeHeaders)) c.res.headers.set(name, value);
  });
  app.route("/", healthRoutes());
  app.route("/", assetRoutes());
  app.route("/", loginRoutes(cookie));
  app.route("/api/v1", apiRoutes());
  app.use(async (c, next) => {
    if (c.get("asker")?.kind === "login") return await next();
    if (c.req.method !== "GET" || c.get("asker") !== null) {
      return pageAnswer(c, "Log in first", html`<h1>Log in first</h1><p><a href="/login">Log in</a></p>`, {
        status: 401,
      });
    }
    return c.redirect(page.accounts.claimed ? "/login" : "/claim", 303);
  });
  app.route("/", pageRoutes());
  app.route("/", actionRoutes());
  app.route("/", accountRoutes(cookie));
  app.notFound((c) => missing(c));
  app.onError((error, c) => failed(error, c));
  return app;
}

/** What is refused before any route; sets who asks where it is not. */
function gate(c: Ask, page: Page, cookieName: string): Response | null {
  const host = c.req.header("host") ?? null;
  if (!isOurHost(host, page.hosts)) {
    return problemAnswer(
      c,
      421,
      "Not this box",
      "this box does not answer to that name",
      "Use its address, or add the name to hosts in [status].",
    );
  }
  const asker = askerOf(c, page, cookieName);
  c.set("asker", asker);
  const who = asker?.kind === "login" ? asker.login.id : asker?.kind === "token" ? asker.token.id : c.env.from;
  if (!page.requests.allow(who)) {
    c.header("retry-after", "1");
    return problemAnswer(c, 429, "Too many requests", "more than 20 a second were asked", "Wait a second.");
  }
  if (changes.has(c.req.method) && asker?.kind !== "token") {
    const own = isOwnOrigin(c.req.header("origin") ?? null, c.req.header("sec-fetch-site") ?? null, host);
    if (!own)
      return problemAnswer(
        c,
        403,
        "Not from this page",
        "the change did not come from this page",
        "Open the page itself and try again.",
      );
  }
  return null;
}

function askerOf(c: Ask, page: Page, cookieName: string): Asker | null {
  const bearer = /^Bearer (hf_[\w-]{43})$/.exec(c.req.header("authorization") ?? "")?.[1];
  if (bearer !== undefined) {
    const token = page.accounts.findToken(bearer, page.clock.wallMs());
    return token === null ? null : { kind: "token", token, name: `token ${token.label}`, role: token.role };
  }
  const secret = readCookie(c.req.header("cookie") ?? "", cookieName);
  const login = secret === null ? null : page.logins.find(secret);
  if (login === null) return null;
  // A page that refreshes itself is not somebody who is there.
  if (c.req.header("x-part") === undefined && !c.req.path.startsWith("/api/")) page.logins.touch(login);
  return { kind: "login", login, name: login.name, role: login.role };
}

export function readCookie(header: string, name: string): string | null {
  for (const part of header.split(";")) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return null;
}

function missing(c: Ask): Response {
  if (c.req.path.startsWith("/api/"))
    return problemAnswer(c, 404, "Not found", "there is nothing at this path", "See /api/v1/openapi.json.");
  return pageAnswer(
    c,
    "Not found",
    html`<h1>Not found</h1><p>There is nothing at this address. <a href="/">Overview</a></p>`,
    { status: 404, live: false },
  );
}

/** What we refuse is said; a bug of ours is not explained to strangers. */
function failed(error: Error, c: Ask): Response {
  const known = error instanceof HoldfastError && error.code !== "bug";
  const status = error instanceof HoldfastError && error.code === "storage.notFound" ? 404 : known ? 409 : 500;
  const detail = known && c.get("asker") !== null ? explain(error) : "this could not be done";
  if (c.req.path.startsWith("/api/"))
    return problemAnswer(
      c,
      status,
      status === 404 ? "Not found" : "Not done",
      detail,
      "Look at the log of the supervisor.",
    );
  const title = status === 404 ? "Not found" : "That did not work";
  return pageAnswer(c, title, html`<h1>${title}</h1><p class="error">${detail}</p><p><a href="/">Overview</a></p>`, {
    status,
    live: false,
  });
}
