// SPDX-License-Identifier: Apache-2.0
/**
 * Style sheet, script and icon: text that is part of the program, and a tag of its content.
 */
import script from "../assets/page.js" with { type: "text" };
import style from "../assets/style.css" with { type: "text" };
import { icon } from "./layout.ts";

export const texts: Readonly<{ [path: string]: readonly [type: string, text: string] }> = {
  "/style.css": ["text/css; charset=utf-8", style as unknown as string],
  "/page.js": ["text/javascript; charset=utf-8", script as unknown as string],
  "/icon.svg": ["image/svg+xml", icon],
};

export const assetsTag = Bun.hash.xxHash3(Object.values(texts).join("")).toString(36);
