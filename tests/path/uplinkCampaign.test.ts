// SPDX-License-Identifier: Apache-2.0
/**
 * Faults while the broker is slow, frozen, killed, back without its memory, refusing, full, of the wrong certificate: a real
 * guard, a real Mosquitto behind TLS, one run.
 * Every fault is survived as without a broker, every event of the journal arrives at least once, and the guard grows by no
 * more than a bound.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileOrdered } from "#scripts/bench/orderedProgram.ts";
import { freshName, GuardRun } from "#tests/peers/guardRun.ts";
import { IllBroker } from "#tests/peers/illBroker.ts";
import { Observer } from "#tests/peers/observer.ts";
import { Operator } from "#tests/peers/operator.ts";
import { long, need, tracing } from "#tests/skip.ts";

const faultsEach = long("path") ? 60 : 4;
const timeoutMs = long("path") ? 1_200_000 : 180_000;
const growthMiBMax = 48;
const box = "holdfast/1/box-9";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-campaign-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const residentMiB = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

type Told = { readonly n: number; readonly pn: number; readonly fault?: string; readonly out?: string };
const eventsAt = (observer: Observer): Told[] => observer.decoded(`${box}/e/`) as unknown as Told[];

/** Numbers that another event names as the one before it, and that never came. */
function missing(observer: Observer): number[] {
  const events = eventsAt(observer);
  const seen = new Set(events.map(({ n }) => n));
  return [...new Set(events.map(({ pn }) => pn))].filter((n) => n !== 0 && !seen.has(n));
}

need(
  "gcc",
  "gdbserver",
  "mosquitto",
  "openssl",
  tracing,
)(
  `${faultsEach} faults in each state of the broker: survived, and all of them told in the end`,
  async () => {
    await using broker = await IllBroker.start("box-9");
    const filters = [`${box}/e/#`, `${box}/job/#`, `${box}/birth`];
    await using observer = await Observer.open(broker.url, filters, broker.readerOptions);
    await using program = await compileOrdered("stop");
    const [name, state, config] = [freshName("campaign"), join(folder, "state"), join(folder, "holdfast.toml")];
    const section = [...broker.section, 'device = "box-9"', "drainPerSecond = 0"];
    const quick = ["metricsEveryMs = 1000", "keepAliveMs = 1000", "connectSpreadMs = 0", "reconnectMsMax = 1000"];
    await Bun.write(config, `${[...section, ...quick].join("\n")}\n`);
    const operator = new Operator(observer);
    expect(await operator.believedBy(state, name, "view")).toMatchObject({ code: 0 });
    await using run = new GuardRun(["--name", name, "--state", state, "--config", config, "--", ...program.command]);
    await run.guarding();
    const beforeMiB = residentMiB(run.pid);
    for (const what of broker.states) {
      await broker.make(what);
      for (let round = 0; round < faultsEach; round += 1) {
        const nth = run.seen("outcome").length + 1;
        program.order("l");
        expect([what, (await run.event("outcome", nth)).verdict]).toEqual([what, "clean"]);
      }
    }
    await observer.subscribeAgain();
    const outcomes = run.seen("outcome").map(({ id }) => String(id));
    const last = outcomes.at(-1)!;
    await observer.until("the last outcome", () => eventsAt(observer).some(({ fault, out }) => fault === last && out));
    const grownMiB = residentMiB(run.pid) - beforeMiB;

    // A broker that dies may take with it what it has acknowledged: a reader asks for the numbers that it misses.
    const lost = missing(observer);
    if (lost.length > 0) {
      const range = [`from=${Math.min(...lost)}`, `to=${Math.max(...lost)}`];
      expect(await operator.ask("box-9", "resend", ...range)).toMatchObject({ s: "succeeded" });
      await observer.until("what was missing", () => missing(observer).length === 0);
    }
    const told = eventsAt(observer);
    for (const kind of ["fault", "suppress"]) {
      const ids = new Set(observer.decoded(`${box}/e/${kind}`).map(({ fault }) => fault));
      expect(outcomes.filter((id) => !ids.has(id))).toEqual([]);
    }
    const doubled = told.length - new Set(told.map(({ n }) => n)).size;
    console.log(
      `${outcomes.length} faults; ${told.length} events, ${doubled} of them doubles, ${lost.length} asked for again; grown by ${grownMiB.toFixed(1)} MiB`,
    );
    expect(grownMiB).toBeLessThan(growthMiBMax);
  },
  timeoutMs,
);
