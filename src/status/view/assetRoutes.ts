// SPDX-License-Identifier: Apache-2.0
/**
 * Serves style sheet, script and icon, packed once, under the tag of their content, so that browsers keep them for a year.
 */
import { Hono } from "hono";
import type { Web } from "../web.ts";
import { texts } from "./assets.ts";

export function assetRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  for (const [path, [type, text]] of Object.entries(texts)) {
    const packed = Bun.gzipSync(text);
    app.get(path, (c) => {
      const kept = {
        "content-type": type,
        "cache-control": "public, max-age=31536000, immutable",
        vary: "accept-encoding",
      };
      if (!(c.req.header("accept-encoding") ?? "").includes("gzip")) return c.body(text, 200, kept);
      return c.body(packed, 200, { ...kept, "content-encoding": "gzip" });
    });
  }
  return app;
}
