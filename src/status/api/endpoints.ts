// SPDX-License-Identifier: Apache-2.0
/**
 * Every endpoint of `/api/v1`: what it takes, what it gives, who may ask. One entry each; see endpoint.ts.
 */
import * as v from "valibot";
import { readFault } from "#storage/journalReader.ts";
import { roleAllows, type VerbName, verbRoles } from "#verbs.ts";
import { readSpan } from "../model/curves.ts";
import { logFilter, readLogs } from "../model/logs.ts";
import { type Ask, problemAnswer } from "../web.ts";
import {
  countersAnswer,
  eventAnswer,
  faultAnswer,
  faultDetailAnswer,
  statedAnswer,
  summaryAnswer,
  systemAnswer,
  workloadAnswer,
} from "./answers.ts";
import { type Endpoint, missingAnswer } from "./endpoint.ts";
import * as s from "./schemas.ts";

const defaultLimit = 50;
const list = <Schema extends v.GenericSchema>(item: Schema) =>
  v.object({ items: v.array(item), before: v.nullable(v.number()) });
const cursorOf = (text: string | undefined): number => (text === undefined ? Number.POSITIVE_INFINITY : Number(text));
const view = (c: Ask) => c.get("page").view;

export const endpoints: readonly Endpoint[] = [
  {
    method: "get",
    path: "/summary",
    role: "view",
    summary: "Health in one line, and the last day",
    answer: s.summary,
    run: (c) => summaryAnswer(view(c)),
  },
  {
    method: "get",
    path: "/issues",
    role: "view",
    summary: "What is wrong now, with cause and fix",
    answer: v.object({ items: v.array(s.issue) }),
    run: (c) => ({ items: view(c).issues }),
  },
  {
    method: "get",
    path: "/workloads",
    role: "view",
    summary: "Programs and guests",
    answer: v.object({ items: v.array(s.workload) }),
    run: (c) => ({ items: view(c).workloads.map(workloadAnswer) }),
  },
  {
    method: "get",
    path: "/workloads/{name}",
    role: "view",
    summary: "One program or guest",
    parameters: s.nameParameter,
    answer: s.workload,
    missing: true,
    run: (c, { parameters }) => {
      const line = view(c).workloads.find(({ told }) => told.name === parameters.name);
      return line === undefined ? missingAnswer : workloadAnswer(line);
    },
  },
  {
    method: "get",
    path: "/guests",
    role: "view",
    summary: "Guests alone",
    answer: v.object({ items: v.array(s.workload) }),
    run: (c) => ({
      items: view(c)
        .workloads.filter(({ told }) => told.kind === "guest")
        .map(workloadAnswer),
    }),
  },
  {
    method: "get",
    path: "/faults",
    role: "view",
    summary: "Faults, newest first; go on with before",
    query: s.faultsQuery,
    answer: list(s.fault),
    run: (c, { query }) => {
      const limit = Number(query.limit ?? defaultLimit);
      const { workload, end } = query;
      const wanted = {
        ...(workload === undefined ? {} : { workload }),
        ...(end === undefined ? {} : { verdict: end }),
      };
      const found = c.get("page").record.faults({ limit, before: cursorOf(query.before), ...wanted });
      return { items: found.map(faultAnswer), before: found.length < limit ? null : found.at(-1)!.n };
    },
  },
  {
    method: "get",
    path: "/faults/{id}",
    role: "view",
    summary: "One fault: stack, acts, reasons, verdict. Registers and memory are not in it",
    parameters: s.idParameter,
    answer: s.faultDetail,
    missing: true,
    run: (c, { parameters }) => {
      const page = c.get("page");
      const fault = page.record.fault(parameters.id!);
      return fault === null ? missingAnswer : faultDetailAnswer(fault, readFault(page.directory, fault.id));
    },
  },
  { method: "get", path: "/host", role: "view", summary: "The machine", answer: s.host, run: (c) => view(c).host },
  {
    method: "get",
    path: "/counters",
    role: "view",
    summary: "Hardware counters, or why there are none, and what is counted for each workload",
    answer: s.counters,
    run: (c) => countersAnswer(view(c)),
  },
  {
    method: "get",
    path: "/fleet",
    role: "view",
    summary: "The uplink to the fleet, or why there is none",
    answer: s.stated,
    run: (c) => statedAnswer(view(c).told.uplink),
  },
  {
    method: "get",
    path: "/checkpoints",
    role: "view",
    summary: "Checkpoints of guests, or why there are none",
    answer: s.stated,
    run: (c) => statedAnswer(view(c).told.checkpoints),
  },
  {
    method: "get",
    path: "/system",
    role: "view",
    summary: "Version, storage, update lock",
    answer: s.system,
    run: (c) => systemAnswer(view(c)),
  },
  {
    method: "get",
    path: "/events",
    role: "view",
    summary: "What happened and is no fault, newest first",
    query: s.eventsQuery,
    answer: list(s.event),
    run: (c, { query }) => {
      const limit = Number(query.limit ?? defaultLimit);
      const { workload, event } = query;
      const wanted = { ...(workload === undefined ? {} : { workload }), ...(event === undefined ? {} : { event }) };
      const found = c.get("page").record.events({ limit, before: cursorOf(query.before), ...wanted });
      return { items: found.map(eventAnswer), before: found.length < limit ? null : found.at(-1)!.n };
    },
  },
  {
    method: "get",
    path: "/logs",
    role: "view",
    summary: "Lines of the init system's journal, redacted",
    query: s.logsQuery,
    answer: s.logs,
    run: async (c, { query }) => {
      return await readLogs(logFilter(query), c.get("page").clock.wallMs());
    },
  },
  {
    method: "get",
    path: "/curves",
    role: "view",
    summary: "One series over time",
    query: s.curveQuery,
    answer: s.curve,
    run: (c, { query }) => {
      const page = c.get("page");
      return readSpan(
        page.directory,
        { name: query.series!, workload: query.workload ?? "" },
        (query.span ?? "24h") as never,
        page.clock.wallMs(),
      );
    },
  },
  {
    method: "get",
    path: "/jobs",
    role: "view",
    summary: "What was asked for, newest first",
    answer: v.object({ items: v.array(s.job) }),
    run: (c) => ({ items: c.get("page").jobs }),
  },
  {
    method: "get",
    path: "/jobs/{id}",
    role: "view",
    summary: "One job",
    parameters: v.object({ id: v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/)) }),
    answer: s.job,
    missing: true,
    run: (c, { parameters }) => c.get("page").job(parameters.id!) ?? missingAnswer,
  },
  {
    method: "post",
    path: "/acts",
    role: "view",
    summary: "Asks for a verb; the role that it needs is checked. Idempotency-Key is honoured",
    body: s.act,
    answer: s.job,
    status: 202,
    run: (c, { body }) => ask(c, body.verb as VerbName, body.workload as string),
  },
];

function ask(c: Ask, verb: VerbName, workload: string): unknown {
  const asker = c.get("asker")!;
  const page = c.get("page");
  const needed = verbRoles[verb];
  if (!roleAllows(asker.role, needed)) {
    return problemAnswer(c, 403, "Not allowed", `${verb} needs the role ${needed}`, "Ask an admin.");
  }
  const line = page.view.workloads.find(({ told }) => told.name === workload);
  if (line === undefined || !line.told.verbs.includes(verb)) {
    return problemAnswer(
      c,
      409,
      "Not possible",
      `${verb} cannot be asked for ${JSON.stringify(workload.slice(0, 64))} now`,
      "See verbs in /api/v1/workloads.",
    );
  }
  const key = /^[\w-]{8,64}$/.exec(c.req.header("idempotency-key") ?? "")?.[0];
  const id = key === undefined ? undefined : Bun.hash.xxHash3(`${asker.name} ${key}`).toString(36);
  return page.ask(verb, workload, { name: asker.name, role: asker.role, from: c.env.from }, id);
}
