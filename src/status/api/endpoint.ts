// SPDX-License-Identifier: Apache-2.0
/**
 * One endpoint as data: method, path, role, what it takes and gives, and the function that answers. The routes and the
 * OpenAPI document are both made from these, so neither can have what the other has not.
 */

import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";
import { type Role, roleAllows } from "#verbs.ts";
import { limits } from "../settings.ts";
import { type Ask, problemAnswer } from "../web.ts";

// biome-ignore lint/suspicious/noExplicitAny: an endpoint's schemas are whatever it says; each is checked where it is defined.
type Shape = v.ObjectSchema<any, any> | v.StrictObjectSchema<any, any>;

export type Endpoint = {
  readonly method: "get" | "post";
  /** With `{name}` for a parameter, as OpenAPI writes it. */
  readonly path: string;
  readonly summary: string;
  readonly role: Role;
  readonly parameters?: Shape;
  readonly query?: Shape;
  readonly body?: Shape;
  readonly answer: v.GenericSchema;
  readonly status?: ContentfulStatusCode;
  readonly missing?: boolean;
  readonly run: (c: Ask, given: Given) => unknown;
};
/** What was sent, checked by the schemas. */
export type Given = {
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly body: Readonly<Record<string, unknown>>;
};

export const missingAnswer = Symbol("there is no such thing");

export const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");

export async function answerEndpoint(c: Ask, endpoint: Endpoint): Promise<Response> {
  const asker = c.get("asker");
  if (asker === null) {
    c.header("www-authenticate", "Bearer");
    return problemAnswer(
      c,
      401,
      "Log in first",
      "this needs a login or a token",
      "Send a token as Authorization: Bearer.",
    );
  }
  if (!roleAllows(asker.role, endpoint.role)) {
    return problemAnswer(c, 403, "Not allowed", `this needs the role ${endpoint.role}`, "Ask an admin.");
  }
  const given = await readGiven(c, endpoint);
  if (given instanceof Response) return given;
  const value = await endpoint.run(c, given);
  if (value instanceof Response) return value;
  if (value === missingAnswer)
    return problemAnswer(c, 404, "Not found", "there is nothing of that name", "List them first.");
  return c.json(value as object, endpoint.status ?? 200, { "cache-control": "no-store" });
}

async function readGiven(c: Ask, { parameters, query, body }: Endpoint): Promise<Given | Response> {
  const asked = { parameters: c.req.param(), query: c.req.query(), body: {} as unknown };
  if (parameters !== undefined && !v.is(parameters, asked.parameters)) {
    return problemAnswer(c, 404, "Not found", "there is nothing of that name", "List them first.");
  }
  if (body !== undefined) {
    const asker = c.get("asker");
    if (asker?.kind === "login" && c.req.header("x-csrf-token") !== asker.login.csrf) {
      return problemAnswer(
        c,
        403,
        "Not from this page",
        "the token of the login is missing",
        "Send x-csrf-token, or use an API token.",
      );
    }
    const text = await c.req.text();
    try {
      asked.body = text.length > limits.bodyBytesMax ? null : JSON.parse(text);
    } catch {
      return problemAnswer(c, 400, "Not JSON", "the body is not JSON", "Send an object as application/json.");
    }
  }
  const checked = { parameters: asked.parameters, query: {}, body: {} };
  for (const [name, schema, value] of [
    ["query", query, asked.query],
    ["body", body, asked.body],
  ] as const) {
    if (schema === undefined) continue;
    const read = v.safeParse(schema, value);
    if (!read.success) {
      const [issue] = read.issues;
      const at = v.getDotPath(issue!) ?? name;
      return problemAnswer(
        c,
        400,
        "Not understood",
        `${at}: ${issue!.message}`.slice(0, 200),
        "See /api/v1/openapi.json.",
      );
    }
    checked[name] = read.output as never;
  }
  return checked;
}
