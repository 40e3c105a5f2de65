// SPDX-License-Identifier: Apache-2.0
/**
 * Style sheet, script and icon: text that is part of the program, served under a tag of its content and kept for a year.
 */
import { Hono } from "hono";
import script from "../assets/page.js" with { type: "text" };
import style from "../assets/style.css" with { type: "text" };
import type { Web } from "../web.ts";
import { icon } from "./layout.ts";

const texts: Readonly<{ [path: string]: readonly [type: string, text: string] }> = {
  "/style.css": ["text/css; charset=utf-8", style as unknown as string],
  "/page.js": ["text/javascript; charset=utf-8", script as unknown as string],
  "/icon.svg": ["image/svg+xml", icon],
};

export const assetsTag = Bun.hash.xxHash3(Object.values(texts).join("")).toString(36);

export function assetRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  for (const [path, [type, text]] of Object.entries(texts)) {
    const packed = Bun.gzipSync(text);
    app.get(path, (c) => {
      const kept = { "content-type": type, "cache-control": "public, max-age=31536000, immutable", vary: "accept-encoding" };
      if (!(c.req.header("accept-encoding") ?? "").includes("gzip")) return c.body(text, 200, kept);
      return c.body(packed, 200, { ...kept, "content-encoding": "gzip" });
    });
  }
  return app;
}
