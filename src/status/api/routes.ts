// SPDX-License-Identifier: Apache-2.0
/**
 * The routes of `/api/v1`: those of the endpoint table, the OpenAPI document, and the stream.
 */
import { Hono } from "hono";
import { type Ask, problemAnswer, type Web } from "../web.ts";
import { answerEndpoint, honoPath } from "./endpoint.ts";
import { endpoints } from "./endpoints.ts";
import { openApiDocument } from "./openApi.ts";
import { Streams } from "./stream.ts";

export const streamsOf = new WeakMap<object, Streams>();

export function apiRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  for (const endpoint of endpoints) {
    app.on(endpoint.method.toUpperCase(), honoPath(endpoint.path), (c) => answerEndpoint(c, endpoint));
  }
  app.get("/openapi.json", (c) => {
    if (c.get("asker") === null) return needsLogin(c);
    return c.json(openApiDocument(endpoints, c.get("page").view.told.version), 200, { "cache-control": "no-store" });
  });
  app.get("/stream", (c) => (c.get("asker") === null ? needsLogin(c) : streams(c).open(c)));
  const known = [...new Set([...endpoints.map(({ path }) => honoPath(path)), "/openapi.json", "/stream"])];
  for (const path of known) {
    const methods = endpoints.filter((each) => honoPath(each.path) === path).map(({ method }) => method.toUpperCase());
    const allowed = methods.length === 0 ? ["GET"] : methods;
    app.all(path, (c) => {
      c.header("allow", allowed.join(", "));
      return problemAnswer(
        c,
        405,
        "Not this way",
        `${c.req.method} is not for this path`,
        `Use ${allowed.join(" or ")}.`,
      );
    });
  }
  return app;
}

function streams(c: Ask): Streams {
  const page = c.get("page");
  const known = streamsOf.get(page);
  if (known !== undefined) return known;
  const made = new Streams(page);
  streamsOf.set(page, made);
  return made;
}

const needsLogin = (c: Ask): Response =>
  problemAnswer(c, 401, "Log in first", "this needs a login or a token", "Send a token as Authorization: Bearer.");
