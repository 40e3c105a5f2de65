// SPDX-License-Identifier: Apache-2.0
/**
 * The password once more, for acts that destroy: a field of their forms, and whether it was right. Gets a request.
 */
import type { Ask } from "../web.ts";
import { type Html, html, nothing } from "./html.ts";

/** Destructive acts ask for the password again where it was given longer than five minutes ago. */
export function freshField(c: Ask): Html {
  const asker = c.get("asker");
  if (asker?.kind === "login" && c.get("page").logins.isFresh(asker.login)) return nothing;
  return html`<label for="password">Your password, once more</label><input id="password" name="password" type="password" autocomplete="current-password" required maxlength="256">`;
}

/** True where the password was given lately, or is right now. */
export async function isFresh(c: Ask, form: Readonly<Record<string, string>>): Promise<boolean> {
  const asker = c.get("asker");
  const page = c.get("page");
  if (asker?.kind !== "login") return false;
  if (page.logins.isFresh(asker.login)) return true;
  if (page.tries.waitSeconds(c.env.from) > 0) return false;
  const right = (await page.accounts.verify(asker.name, form.password ?? "")) !== null;
  if (right) page.logins.refresh(asker.login);
  else page.tries.wrong(c.env.from);
  return right;
}
