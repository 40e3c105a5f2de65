// SPDX-License-Identifier: Apache-2.0
/**
 * The OpenAPI 3.1 document, made from the endpoint table and its valibot schemas. Pure.
 *
 * Only the parts of valibot that those schemas use are known here; any other is a bug that the first test meets.
 */
import type * as v from "valibot";
import { AssertionError } from "#errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { problem } from "./schemas.ts";

export type JsonSchema = { readonly [key: string]: unknown };

/** A valibot schema as JSON Schema 2020-12. @throws AssertionError for what is not known here */
export function jsonSchema(schema: v.GenericSchema): JsonSchema {
  const given = schema as unknown as Record<string, never> & {
    type: string;
    pipe?: readonly Record<string, unknown>[];
  };
  if (given.pipe !== undefined) return Object.assign({}, plainSchema(given), ...given.pipe.slice(1).map(ruleOf));
  return plainSchema(given);
}

function plainSchema(schema: Record<string, unknown> & { type: string }): JsonSchema {
  switch (schema.type) {
    case "string":
    case "number":
    case "boolean":
      return { type: schema.type };
    case "unknown":
      return {};
    case "picklist":
      return { type: "string", enum: schema.options };
    case "nullable":
      return { anyOf: [jsonSchema(schema.wrapped as v.GenericSchema), { type: "null" }] };
    case "optional":
      return jsonSchema(schema.wrapped as v.GenericSchema);
    case "array":
      return { type: "array", items: jsonSchema(schema.item as v.GenericSchema) };
    case "object":
    case "strict_object":
      return objectSchema(schema.entries as Record<string, v.GenericSchema>, schema.type === "strict_object");
    default:
      throw new AssertionError("bug", `no JSON schema is known for valibot's ${schema.type}`);
  }
}

function objectSchema(entries: Readonly<Record<string, v.GenericSchema>>, strict: boolean): JsonSchema {
  const required = Object.keys(entries).filter((name) => entries[name]!.type !== "optional");
  return {
    type: "object",
    properties: Object.fromEntries(Object.entries(entries).map(([name, schema]) => [name, jsonSchema(schema)])),
    ...(required.length === 0 ? {} : { required }),
    ...(strict ? { additionalProperties: false } : {}),
  };
}

function ruleOf(rule: Readonly<Record<string, unknown>>): JsonSchema {
  switch (rule.type) {
    case "integer":
      return { type: "integer" };
    case "max_length":
      return { maxLength: rule.requirement };
    case "min_length":
      return { minLength: rule.requirement };
    case "regex":
      return { pattern: (rule.requirement as RegExp).source };
    default:
      throw new AssertionError("bug", `no JSON schema is known for valibot's rule ${String(rule.type)}`);
  }
}

export function openApiDocument(endpoints: readonly Endpoint[], version: string): JsonSchema {
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const endpoint of endpoints) {
    paths[`/api/v1${endpoint.path}`] ??= {};
    paths[`/api/v1${endpoint.path}`]![endpoint.method] = operation(endpoint);
  }
  paths["/api/v1/stream"] = { get: streamOperation };
  return {
    openapi: "3.1.0",
    info: { title: "Holdfast", version, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    security: [{ token: [] }, { login: [] }],
    paths,
    components: {
      schemas: { Problem: jsonSchema(problem) },
      securitySchemes: {
        token: { type: "http", scheme: "bearer" },
        login: { type: "apiKey", in: "cookie", name: "__Host-hf" },
      },
    },
  };
}

function operation(endpoint: Endpoint): JsonSchema {
  const { path, method, summary, role, parameters, query, body, answer, status = 200, missing } = endpoint;
  const errors = [
    ...(query === undefined && body === undefined ? [] : [400]),
    401,
    403,
    ...(missing ? [404] : []),
    ...(body === undefined ? [] : [409]),
    429,
  ];
  return {
    operationId: `${method}${path.replaceAll(/[^a-z]+(\w?)/gi, (_, letter: string) => letter.toUpperCase())}`,
    summary,
    "x-role": role,
    parameters: [...places("path", parameters), ...places("query", query)],
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: jsonSchema(body) } } } }),
    responses: {
      [status]: { description: "done", content: { "application/json": { schema: jsonSchema(answer) } } },
      ...Object.fromEntries(errors.map((code) => [code, problemResponse])),
    },
  };
}

function places(place: "path" | "query", schema: Endpoint["query"]): JsonSchema[] {
  if (schema === undefined) return [];
  return Object.entries(schema.entries as Record<string, v.GenericSchema>).map(([name, each]) => ({
    name,
    in: place,
    required: place === "path" || each.type !== "optional",
    schema: jsonSchema(each),
  }));
}

const problemResponse: JsonSchema = {
  description: "not done; the body says what, and what to do",
  content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
};

/** One event of the stream. */
const streamEvent: JsonSchema = {
  type: "object",
  properties: {
    id: { type: "string" },
    event: { type: "string", enum: ["snapshot", "fault", "outcome", "event", "state", "ended"] },
    data: { type: "string", description: "JSON: a summary, a fault or an event" },
  },
  required: ["data"],
};

const streamOperation: JsonSchema = {
  operationId: "getStream",
  summary: "Server-sent events: snapshot, then fault, outcome, event and state; ids are journal cursors",
  "x-role": "view",
  parameters: [{ name: "Last-Event-ID", in: "header", required: false, schema: { type: "string" } }],
  responses: {
    200: { description: "events", content: { "text/event-stream": { schema: streamEvent } } },
    401: problemResponse,
    429: problemResponse,
    503: problemResponse,
  },
};
