// SPDX-License-Identifier: Apache-2.0
/**
 * The JSON interface against its own document: every route is in it, every answer fits its schema, whatever is sent is
 * answered as the document says; and the stream goes on where a reader left it.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import type { Endpoint } from "#status/api/endpoint.ts";
import { endpoints } from "#status/api/endpoints.ts";
import { openApiDocument } from "#status/api/openApi.ts";
import { problem } from "#status/api/schemas.ts";
import { PageHost, until, workload } from "#tests/peers/pageHost.ts";
import { long } from "#tests/skip.ts";

setDefaultTimeout(120_000);

type Operation = {
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean }[];
  readonly responses: Readonly<Record<string, unknown>>;
};

let host: PageHost;
let token = "";
let fault = "";
beforeAll(async () => {
  host = await PageHost.open();
  const verbs = ["workload.restart"] as const;
  host.told = {
    workloads: [
      workload("shop"),
      workload("cache", { kind: "guest", state: "up", restarts: { used: 0, max: 5 }, verbs }),
    ],
  };
  const ids = await host.record([
    { agoMs: 3_000, verdict: "clean", cut: true },
    { agoMs: 2_000, verdict: null },
    { agoMs: 1_000, verdict: "failed" },
  ]);
  fault = ids[0]!;
  host.storage.sample("self_rss_bytes", "", 7, "B");
  await host.storage.flush(undefined, "history");
  token = await host.token(await host.claimed(), "admin");
  // The page is told of workloads now and then, and reads the record by itself.
  for (const path of ["/workloads/cache", `/faults/${fault}`]) {
    await until(async () => (await call(path)).status === 200);
  }
});
afterAll(() => host?.[Symbol.asyncDispose]());

const call = (path: string, body?: string): Promise<Response> =>
  body === undefined
    ? host.get(`api/v1${path}`, { authorization: `Bearer ${token}` })
    : host.send(`api/v1${path}`, body, { authorization: `Bearer ${token}` });

const document = openApiDocument(endpoints, "0.1.0") as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};

const examples: Readonly<Record<string, () => string>> = {
  "/workloads/{name}": () => "/workloads/cache",
  "/faults/{id}": () => `/faults/${fault}`,
  "/curves": () => "/curves?series=self_rss_bytes&span=1h",
  "/faults": () => "/faults?limit=2&workload=shop&end=clean",
};

describe("the document", () => {
  test("is served as it is made, and holds every route", async () => {
    const served = (await (await call("/openapi.json")).json()) as typeof document;
    expect(served).toEqual(JSON.parse(JSON.stringify(document)));
    expect(Object.keys(served.paths).sort()).toEqual(
      [...endpoints.map(({ path }) => `/api/v1${path}`), "/api/v1/stream"].sort(),
    );
  });

  test.each(endpoints.filter(({ method }) => method === "get").map((each) => [each.path, each] as const))(
    "%s answers as its schema says",
    async (path, endpoint: Endpoint) => {
      let asked = examples[path]?.() ?? path;
      if (path === "/jobs/{id}") {
        const made = (await (
          await call("/acts", JSON.stringify({ verb: "workload.restart", workload: "cache" }))
        ).json()) as { id: string };
        asked = `/jobs/${made.id}`;
      }
      const answer = await call(asked);
      expect(answer.status).toBe(200);
      const read = v.safeParse(endpoint.answer, await answer.json());
      expect(read.issues ?? []).toEqual([]);
    },
  );
});

/** Text that is short, or meant to hurt. */
const nasty = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constantFrom(
    "",
    "0",
    "-1",
    "1e9",
    "..",
    "../../etc/passwd",
    "%00",
    "null",
    "__proto__",
    "constructor",
    "' OR 1=1--",
    "<script>",
    "a".repeat(3_000),
    "\u202e",
    "100",
    "101",
    "shop",
    "clean",
  ),
);
const runs = long("fuzz") ? 400 : 12;

describe("whatever is sent", () => {
  for (const endpoint of endpoints) {
    const name = `${endpoint.method} ${endpoint.path}`;
    test(`${name} is answered with one of its own statuses`, async () => {
      const operation = document.paths[`/api/v1${endpoint.path}`]![endpoint.method]!;
      const names = operation.parameters.filter((each) => each.in === "query").map((each) => each.name);
      const query = fc.dictionary(fc.oneof(fc.constantFrom("x", ...names), nasty), nasty, { maxKeys: 4 });
      const body = fc.oneof(
        nasty,
        fc.json(),
        fc.record({ verb: nasty, workload: nasty }).map((each) => JSON.stringify(each)),
      );
      await fc.assert(
        fc.asyncProperty(query, nasty, body, async (fields, part, sent) => {
          const place = endpoint.path.replaceAll(
            /\{\w+\}/g,
            encodeURIComponent(part.toWellFormed()).replaceAll(/^\.+$/g, "x") || "x",
          );
          const pairs = Object.entries(fields).map(
            ([key, value]) => `${encodeURIComponent(key.toWellFormed())}=${encodeURIComponent(value.toWellFormed())}`,
          );
          const answer = await call(
            `${place}?${pairs.join("&")}`,
            endpoint.method === "post" ? sent.toWellFormed() : undefined,
          );
          expect(Object.keys(operation.responses)).toContain(String(answer.status));
          const value: unknown = await answer.json();
          const schema = answer.status < 300 ? endpoint.answer : problem;
          expect(v.safeParse(schema, value).issues ?? []).toEqual([]);
        }),
        { numRuns: runs },
      );
    });
  }
});

describe("the stream", () => {
  test("begins with a snapshot, tells what happens, and goes on after the last id without a gap", async () => {
    await using reader = await open(null);
    const snapshot = await reader.next();
    expect(snapshot.event).toBe("snapshot");
    const ids = await host.record([{ agoMs: 0, verdict: "clean" }]);
    const seen: string[] = [];
    let last = snapshot.id;
    while (!seen.includes("outcome")) {
      const piece = await reader.next();
      if (piece.event === "fault" || piece.event === "outcome") {
        expect((JSON.parse(piece.data) as { id: string }).id).toBe(ids[0]!);
        seen.push(piece.event);
      }
      if (piece.event === "fault") last = piece.id;
    }
    expect(seen).toEqual(["fault", "outcome"]);
    // Another reader that has seen the fault, and not its outcome.
    await using again = await open(last);
    const next = await again.next();
    expect([next.event, (JSON.parse(next.data) as { end: string }).end]).toEqual(["outcome", "clean"]);
  });
});

type Piece = { readonly id: string; readonly event: string; readonly data: string };

async function open(lastId: string | null): Promise<AsyncDisposable & { next(): Promise<Piece> }> {
  const more = lastId === null ? {} : { "last-event-id": lastId };
  const answer = await host.get("api/v1/stream", { authorization: `Bearer ${token}`, ...more });
  expect(answer.status).toBe(200);
  const chunks = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  return {
    async next() {
      for (;;) {
        const end = rest.indexOf("\n\n");
        if (end >= 0) {
          const lines = rest.slice(0, end).split("\n");
          rest = rest.slice(end + 2);
          const field = (name: string): string =>
            lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? "";
          if (field("event") !== "") return { id: field("id"), event: field("event"), data: field("data") };
          continue;
        }
        const { value, done } = await chunks.read();
        if (done) throw new TypeError("the stream has ended");
        rest += value;
      }
    },
    async [Symbol.asyncDispose]() {
      await chunks.cancel();
    },
  };
}
