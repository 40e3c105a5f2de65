// SPDX-License-Identifier: Apache-2.0
/**
 * What every route shares: who asks, and the forms of an answer. Gets a request's context; gives responses.
 */
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { type Role, roleAllows } from "#verbs.ts";
import type { ApiToken } from "./access/accounts.ts";
import type { Login } from "./access/logins.ts";
import type { Page } from "./page.ts";
import { isLoopback } from "./settings.ts";
import { assetsTag } from "./view/assets.ts";
import type { Html } from "./view/html.ts";
import { document, type Viewer } from "./view/layout.ts";

export type Asker =
  | { readonly kind: "login"; readonly login: Login; readonly name: string; readonly role: Role }
  | { readonly kind: "token"; readonly token: ApiToken; readonly name: string; readonly role: Role };

export type Web = {
  Bindings: {
    readonly from: string;
    /** Keeps a quiet answer open. */
    readonly keepOpen: () => void;
  };
  Variables: { page: Page; asker: Asker | null };
};
export type Ask = Context<Web>;

export const fromLoopback = (c: Ask): boolean => isLoopback(c.env.from);

/** An error as RFC 9457 has it. */
export function problemAnswer(
  c: Ask,
  status: ContentfulStatusCode,
  title: string,
  detail: string,
  advice: string,
): Response {
  const body = { type: `about:blank#${status}`, title, status, detail, advice };
  return c.body(JSON.stringify(body), status, {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
  });
}

/** The login as pages see it. A token is for scripts and sees no pages. */
export function viewerOf(c: Ask): Viewer | null {
  const asker = c.get("asker");
  return asker?.kind === "login" ? { name: asker.name, role: asker.role, csrf: asker.login.csrf } : null;
}

export const mayAct = (c: Ask, role: Role): boolean => {
  const asker = c.get("asker");
  return asker !== null && roleAllows(asker.role, role);
};

export function pageAnswer(
  c: Ask,
  title: string,
  body: Html,
  options: { status?: ContentfulStatusCode; live?: boolean; everyMs?: number } = {},
): Response {
  const page = c.get("page");
  const viewer = viewerOf(c);
  const view = page.view;
  const theme = themeOf(c);
  const frame = {
    box: view.told.box,
    version: view.told.version,
    headline: viewer === null ? null : view.headline,
    issues: view.issues.length,
    viewer,
    path: c.req.path,
    nowMs: view.nowMs,
    cursor: view.cursor,
    assets: assetsTag,
    theme,
    idleMs: page.settings.idleMs,
  };
  const text = document(frame, { title, body, live: options.live ?? true, everyMs: options.everyMs ?? usualEveryMs });
  return c.body(text, options.status ?? 200, {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
  });
}

/** Durations and the figures of the day move this slowly; what happens comes by itself. */
const usualEveryMs = 15_000;

function themeOf(c: Ask): "auto" | "light" | "dark" {
  const match = /(?:^|; )hf-theme=(light|dark)/.exec(c.req.header("cookie") ?? "");
  return (match?.[1] as "light" | "dark" | undefined) ?? "auto";
}
