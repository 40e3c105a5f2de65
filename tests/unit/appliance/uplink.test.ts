// SPDX-License-Identifier: Apache-2.0
/**
 * The pure parts between a supervisor and its fleet: names of places and edits on the wire and back, states from journal
 * rows, a flat configuration without secrets. Gets values; needs no broker.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { editOf, placeText, readEdit, readPlace } from "#appliance/uplink/wirePlaces.ts";
import { WorkloadStates } from "#appliance/uplink/workloadStates.ts";
import { systemClock } from "#clock.ts";
import { flatConfig } from "#config/flat.ts";
import { readConfig } from "#config/load.ts";

const seed = systemClock.wallMs() % 2 ** 31;
const build = "0123456789abcdef0123";

test(`a key survives the wire, or has no name there (seed ${seed})`, () => {
  for (const key of [`abandon ${build}+0x1f=-1`, `inward ${build}+0x0=0`, `neutralise ${build}+0x7`, "park"]) {
    expect(editOf(readEdit(key)!)?.key).toBe(key);
  }
  for (const key of ["mend", "deliver exhausted", "abandon /usr/bin/x+0x1=-1", `abandon ${build}+0x1`, ""]) {
    expect(readEdit(key)).toBeNull();
  }
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }),
      (at, value) => {
        const key = `abandon ${placeText({ module: build, offset: at })}=${value}`;
        expect(editOf(readEdit(key)!)?.key).toBe(key);
      },
    ),
    { seed },
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      const place = readPlace(text);
      if (place !== null) expect(placeText(place).length).toBeLessThanOrEqual(text.length);
    }),
    { seed },
  );
});

test("rung 2 of another box is an abandoned request here; whom to cut is never told", () => {
  const candidate = { module: build, offset: 1n };
  expect(editOf({ rung: 2, candidate, returnValue: -1n })).toEqual({ key: `abandon ${build}+0x1=-1`, rung: "abandon" });
  expect(editOf({ rung: 1, candidate: null, returnValue: -1n })).toBeNull();
  expect(editOf({ rung: 3, candidate, returnValue: null })).toBeNull();
});

test("the journal tells who is up and protected", () => {
  const states = new WorkloadStates();
  const take = (event: string): boolean =>
    states.take({ kind: "event", n: 1, atMs: 1, id: "e", event, workload: "redis", facts: {} });
  expect(take("guard.started")).toBe(true);
  expect(take("guard.protected")).toBe(true);
  expect(take("guard.protected")).toBe(false);
  expect(take("act.finished")).toBe(false);
  expect(states.all).toEqual([{ name: "redis", kind: "program", up: true, protected: true }]);
  expect(take("guard.stubLost")).toBe(true);
  expect(states.all).toEqual([{ name: "redis", kind: "program", up: true, protected: false }]);
});

test("a configuration is told flat, by names, without command lines, environment and probes", () => {
  const reading = readConfig(`
    [telemetry]
    broker = "mqtts://broker.example:8883"
    [[program]]
    name = "db"
    command = ["server", "--password", "hunter2"]
    environment = { TOKEN = "hunter2" }
    probes = ["cmd:check hunter2"]`);
  if (reading.kind !== "config") throw new TypeError(JSON.stringify(reading.problems));
  const flat = flatConfig(reading.config);
  expect(JSON.stringify(flat)).not.toContain("hunter2");
  expect(flat).toMatchObject({
    "telemetry.broker": "mqtts://broker.example:8883",
    "program.db.restart.attemptsMax": 5,
  });
});
