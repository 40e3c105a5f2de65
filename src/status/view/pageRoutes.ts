// SPDX-License-Identifier: Apache-2.0
/**
 * The pages that are read: one route each. Gets a login (checked before); gives HTML. Every one works without script.
 */
import { Hono } from "hono";
import * as v from "valibot";
import { readFlight } from "#storage/flightReader.ts";
import { readFault } from "#storage/journalReader.ts";
import { ends, eventsQuery, faultsQuery, logsQuery } from "../api/schemas.ts";
import { readSpan, type Span, seriesOf, spanMs } from "../model/curves.ts";
import { logFilter, logText, readLogs } from "../model/logs.ts";
import { limits } from "../settings.ts";
import { type Ask, pageAnswer, viewerOf, type Web } from "../web.ts";
import { faultBars, faultChart } from "./chart.ts";
import { countersPage } from "./countersPage.ts";
import { faultsPage } from "./faultList.ts";
import { faultPage } from "./faultPage.ts";
import { flight } from "./flight.ts";
import { helpPage } from "./help.ts";
import { historyPage } from "./historyPage.ts";
import { hostPage } from "./hostPage.ts";
import { html } from "./html.ts";
import { eventsPage, logsPage } from "./lists.ts";
import { overview, workloadsPage } from "./overview.ts";
import { checkpointsPage, fleetPage, systemPage } from "./places.ts";
import { workloadPage } from "./workloadPage.ts";

const dayMs = 24 * 3_600_000;
const lastFaults = 10;
/** As many as the box or a workload has; more would make the page heavy. */
const curvesMax = 8;
/** Pages of figures that never stand still are asked for again this often while somebody looks. */
const moving = { everyMs: 2_500 };

export function pageRoutes(): Hono<Web> {
  const app = new Hono<Web>();
  app.get("/", overviewRoute);
  app.get("/faults", faultsRoute);
  app.get("/faults/:id", faultRoute);
  app.get("/workloads", workloadsRoute);
  app.get("/workloads/:name", workloadRoute);
  app.get("/history", historyRoute);
  app.get("/host", (c) => pageAnswer(c, "Host", hostPage(c.get("page").view), moving));
  app.get("/counters", (c) => pageAnswer(c, "Counters", countersPage(c.get("page").view), moving));
  app.get("/fleet", (c) => pageAnswer(c, "Fleet", fleetPage(c.get("page").view)));
  app.get("/checkpoints", (c) => pageAnswer(c, "Checkpoints", checkpointsPage(c.get("page").view)));
  app.get("/system", (c) => pageAnswer(c, "System", systemPage(c.get("page").view, c.get("page").record)));
  app.get("/events", eventsRoute);
  app.get("/logs", logsRoute);
  app.get("/logs/file", logFileRoute);
  app.get("/help", (c) => pageAnswer(c, "Help", helpPage(), { live: false }));
  return app;
}

function overviewRoute(c: Ask): Response {
  const { view, record } = c.get("page");
  const { issues, workloads, day, nowMs } = view;
  const recent = record.faults({ limit: limits.faultsKept, since: nowMs - dayMs });
  const chart = faultChart(faultBars(recent, nowMs, dayMs, 48), "last 24 hours");
  const viewer = viewerOf(c)!;
  return pageAnswer(
    c,
    "Overview",
    overview({ issues, workloads, day, faults: recent.slice(0, lastFaults), chart, nowMs, viewer }),
  );
}

function faultsRoute(c: Ask): Response {
  const { view, record } = c.get("page");
  const query = c.req.query();
  const read = v.safeParse(faultsQuery, {
    workload: query.workload || undefined,
    before: query.before,
    end: query.verdict || undefined,
  });
  if (!read.success) return badQuery(c);
  const { workload, before, end } = read.output;
  const limit = limits.pageRowsMax;
  const found = record.faults({
    limit,
    ...(before === undefined ? {} : { before: Number(before) }),
    ...(workload === undefined ? {} : { workload }),
    ...(end === undefined ? {} : { verdict: end }),
  });
  const names = [...new Set([...view.told.workloads.map(({ name }) => name), ...record.tallies.keys()])].sort();
  const filter = {
    workload: workload ?? "",
    verdict: end ?? ("" as const),
    before: before === undefined ? null : Number(before),
  };
  const more = found.length < limit ? null : found.at(-1)!.n;
  return pageAnswer(c, "Faults", faultsPage(found, filter, names, more, view.nowMs), { live: before === undefined });
}

/** @throws StorageError storage.notFound */
function faultRoute(c: Ask): Response {
  const page = c.get("page");
  const id = c.req.param("id")!;
  const record = readFault(page.directory, /^[0-9a-z-]{1,40}$/.test(id) ? id : "");
  const flown = readFlight(page.directory, record);
  const { counters } = page.view.told;
  const why = counters.known ? "no picture of it is on record" : counters.why;
  const around = flown === null ? html`<p class="empty">Not available: ${why}.</p>` : flight(flown, record.atMs);
  return pageAnswer(c, `${record.head.signal} in ${record.head.workload}`, faultPage(record, around));
}

function workloadsRoute(c: Ask): Response {
  const { view } = c.get("page");
  const from = /^\d{1,5}$/.exec(c.req.query("from") ?? "0")?.[0];
  if (from === undefined) return badQuery(c);
  return pageAnswer(c, "Workloads", workloadsPage(view.workloads, Number(from), view.nowMs));
}

function workloadRoute(c: Ask): Response {
  const { view, record } = c.get("page");
  const name = c.req.param("name")!;
  const line = view.workloads.find(({ told }) => told.name === name);
  if (line === undefined) {
    return pageAnswer(c, "Not found", html`<h1>Not found</h1><p>There is no workload of this name.</p>`, {
      status: 404,
      live: false,
    });
  }
  const faults = record.faults({ limit: limits.faultsKept, workload: name, since: view.nowMs - dayMs });
  const chart = faultChart(faultBars(faults, view.nowMs, dayMs, 48), "last 24 hours");
  const issues = view.issues.filter(({ workload }) => workload === name);
  const restored =
    view.told.metrics.find((sample) => sample.name === "restore_page_seconds" && sample.labels[0] === name) ?? null;
  const told = { line, faults: faults.slice(0, 20), chart, issues, nowMs: view.nowMs, viewer: viewerOf(c)!, restored };
  return pageAnswer(c, name, workloadPage(told));
}

function historyRoute(c: Ask): Response {
  const page = c.get("page");
  const { nowMs } = page.view;
  const asked = c.req.query("span") ?? "24h";
  const span: Span = Object.hasOwn(spanMs, asked) ? (asked as Span) : "24h";
  const series = seriesOf(page.directory);
  const group = c.req.query("workload") ?? "";
  const chosen = series.filter(({ workload }) => workload === group).slice(0, curvesMax);
  const curves = chosen.map((each) => readSpan(page.directory, each, span, nowMs));
  const faults = page.record.faults({
    limit: limits.faultsKept,
    since: nowMs - spanMs[span],
    ...(group === "" ? {} : { workload: group }),
  });
  const groups = [
    ...new Set(["", ...series.map(({ workload }) => workload), ...page.view.told.workloads.map(({ name }) => name)]),
  ];
  return pageAnswer(c, "History", historyPage({ span, group, groups, curves, faults, nowMs }));
}

function eventsRoute(c: Ask): Response {
  const { record, view } = c.get("page");
  const query = c.req.query();
  const read = v.safeParse(eventsQuery, {
    before: query.before,
    workload: query.workload || undefined,
    event: query.event || undefined,
  });
  if (!read.success) return badQuery(c);
  const { before, workload, event } = read.output;
  const limit = limits.pageRowsMax;
  const found = record.events({
    limit,
    ...(before === undefined ? {} : { before: Number(before) }),
    ...(workload === undefined ? {} : { workload }),
    ...(event === undefined ? {} : { event }),
  });
  const more = found.length < limit ? null : found.at(-1)!.n;
  return pageAnswer(
    c,
    "Events",
    eventsPage(found, { workload: workload ?? "", event: event ?? "" }, more, view.nowMs),
    { live: before === undefined },
  );
}

async function logsRoute(c: Ask): Promise<Response> {
  const asked = readLogQuery(c);
  if (asked === null) return badQuery(c);
  const follow = c.req.query("follow") === "yes";
  const filter = logFilter(asked);
  const logs = await readLogs(filter, c.get("page").view.nowMs);
  const file = `/logs/file?${new URLSearchParams(asked)}`;
  return pageAnswer(c, "Logs", logsPage(logs, filter, { follow, file }), { ...moving, live: follow });
}

async function logFileRoute(c: Ask): Promise<Response> {
  const asked = readLogQuery(c);
  if (asked === null) return badQuery(c);
  const { nowMs } = c.get("page").view;
  const logs = await readLogs(logFilter(asked), nowMs);
  const name = `holdfast-${new Date(nowMs).toISOString().slice(0, 19).replaceAll(":", "")}.log`;
  return c.body(logText(logs), 200, {
    "content-type": "text/plain; charset=utf-8",
    "content-disposition": `attachment; filename="${name}"`,
    "cache-control": "no-store",
  });
}

/** null where it is not understood. */
function readLogQuery(c: Ask): Record<string, string> | null {
  const query = c.req.query();
  const words = ["unit", "level", "text", "since", "until"].flatMap((name) =>
    query[name] ? [[name, query[name]]] : [],
  );
  const read = v.safeParse(logsQuery, Object.fromEntries(words));
  return read.success ? (read.output as Record<string, string>) : null;
}

const badQuery = (c: Ask): Response =>
  pageAnswer(
    c,
    "Not understood",
    html`<h1>Not understood</h1><p>The filter in the address is not one of ours: an outcome is one of ${ends.join(", ")}. <a href="${c.req.path}">Without filter</a></p>`,
    {
      status: 400,
      live: false,
    },
  );
