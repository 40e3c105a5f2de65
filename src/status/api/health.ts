// SPDX-License-Identifier: Apache-2.0
/**
 * `/livez`, `/readyz`, `/healthz` and `/metrics`: for service managers and scrapers, on loopback without a login.
 *
 * Live: this thread turns and the supervisor has spoken within ten seconds. Ready: also the journal can be written and every
 * workload is protected, or knowingly not. The broker is not part of it: offline is normal.
 */
import { Hono } from "hono";
import { staleMs } from "../model/issues.ts";
import { openMetricsType } from "../openMetrics.ts";
import type { View } from "../page.ts";
import { type Ask, fromLoopback, type Web } from "../web.ts";
import { metricsText } from "./metricsText.ts";

type Check = { readonly name: string; readonly good: boolean; readonly says: string };

/** States in which a workload is unprotected because somebody wants it so. */
const wanted: readonly string[] = ["paused", "error", "starting"];

/** What readiness is judged by. */
export type ReadySight = {
  readonly told: Pick<View["told"], "atMs" | "storage" | "workloads">;
  readonly nowMs: number;
};

export function checksOf({ told, nowMs }: ReadySight): Check[] {
  const quietMs = nowMs - told.atMs;
  const { kind, why } = told.storage;
  return [
    { name: "supervisor", good: quietMs <= staleMs, says: quietMs <= staleMs ? "turns" : `silent for ${quietMs} ms` },
    { name: "journal", good: kind !== "blind", says: kind === "blind" ? why : kind },
    ...told.workloads.map(({ name, state, protected: isProtected, why: reason }) => ({
      name: `workload ${name}`,
      good: isProtected || wanted.includes(state),
      says: isProtected ? state : `${state}${reason === null ? "" : `: ${reason}`}`,
    })),
  ];
}

export function healthRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  app.get("/livez", (c) => {
    if (!mayAsk(c)) return c.text("not from here\n", 403);
    const { told, nowMs } = c.get("page").view;
    const live = nowMs - told.atMs <= staleMs;
    return c.text(live ? "ok\n" : "the supervisor does not turn\n", live ? 200 : 503, { "cache-control": "no-store" });
  });
  for (const path of ["/readyz", "/healthz"]) app.get(path, ready);
  app.get("/metrics", (c) => {
    if (!mayAsk(c)) return c.text("not from here\n", 403);
    if (!c.get("page").scrapes.allow("all")) return c.text("once a second\n", 429, { "retry-after": "1" });
    const text = metricsText(c.get("page").view, c.get("page").record);
    return c.body(text, 200, {
      "content-type": openMetricsType,
      "cache-control": "no-store",
    });
  });
  return app;
}

function ready(c: Ask): Response {
  if (!mayAsk(c)) return c.text("not from here\n", 403);
  const { view } = c.get("page");
  const checks = checksOf(view);
  const status = checks.every((check) => check.good) ? 200 : 503;
  const headers = { "cache-control": "no-store" };
  if ((c.req.header("accept") ?? "").includes("application/json")) {
    return c.json({ ready: status === 200, health: view.headline.health, checks }, status, headers);
  }
  const lines = checks.map(({ name, good, says }) => `[${good ? "+" : "-"}] ${name}: ${printable(says)}`);
  const verbose = c.req.query("verbose") !== undefined;
  const words = status === 200 ? "ok" : "not ready";
  return c.text(
    verbose ? `${lines.join("\n")}\nhealth: ${view.headline.health}\n${words}\n` : `${words}\n`,
    status,
    headers,
  );
}

const mayAsk = (c: Ask): boolean => fromLoopback(c) || c.get("page").settings.openHealth || c.get("asker") !== null;

const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, " ");
