// SPDX-License-Identifier: Apache-2.0
/**
 * A crash met once is survived everywhere: guards of one redis build on several boxes, one real broker. Box A learns by
 * failing; box B, which never met the fault, survives it at its first meeting by A's record; box C, outside of the herd,
 * pays what A paid. What forged records say changes nothing; a record that fails on a box is told to the fleet.
 *
 * The fault is one whose obvious rescue is the wrong one: see tests/programs/boundary.c.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "#appliance/demo/serverProcess.ts";
import { systemClock } from "#clock.ts";
import { newKeyPair } from "#telemetry/keys.ts";
import { peekGrant, signGrant, signRecord } from "#telemetry/rescueRecord.ts";
import { freshName, type GuardEvent, GuardRun } from "#tests/peers/guardRun.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer, type Seen } from "#tests/peers/observer.ts";
import { holdfast, Operator } from "#tests/peers/operator.ts";
import { need, tracing } from "#tests/skip.ts";

const timeoutMs = 180_000;
const dayMs = 86_400_000;
let folder = "";
let module = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-herd-"));
  module = join(folder, "boundary.so");
  const source = join(import.meta.dir, "../programs/boundary.c");
  Bun.spawnSync(["gcc", "-O2", "-shared", "-fPIC", "-o", module, source]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Fleet = { readonly broker: Mosquitto; readonly observer: Observer; readonly fleetKey: Operator };

/** A box: a guard of a redis of its own with the module, in the fleet or, without `herd`, out of it. */
class RedisBox implements AsyncDisposable {
  readonly #port = freePort();
  readonly #state: string;
  readonly guard: string;
  run!: GuardRun;
  readonly admin: Operator;
  /** A key gives ten commands a minute, and the other one asks often. */
  readonly second: Operator;

  private constructor(
    readonly device: string,
    private readonly fleet: Fleet,
  ) {
    this.#state = join(folder, freshName(device));
    this.guard = freshName(device);
    this.admin = new Operator(fleet.observer);
    this.second = new Operator(fleet.observer);
  }

  static async start(device: string, herd: "use" | "off" | "watch", fleet: Fleet, healthy?: string): Promise<RedisBox> {
    const one = new RedisBox(device, fleet);
    for (const [who, use] of [
      [one.admin, "admin"],
      [one.second, "admin"],
      [fleet.fleetKey, "fleet"],
    ] as const) {
      expect(await who.believedBy(one.#state, one.guard, use)).toMatchObject({ code: 0 });
    }
    const config = join(folder, `${device}.toml`);
    const times = ["herdQuietMs = 0", "connectSpreadMs = 0"];
    const section = [
      "[telemetry]",
      `broker = "${fleet.broker.url}"`,
      `device = "${device}"`,
      `herd = "${herd}"`,
      ...times,
    ];
    await Bun.write(config, `${section.join("\n")}\n`);
    const probe = healthy ?? `redis-cli -p ${one.#port} boundary.health | grep -q WELL`;
    const where = ["--name", one.guard, "--state", one.#state, "--config", config, "--probe", `cmd:${probe}`];
    const server = ["redis-server", "--port", String(one.#port), "--bind", "127.0.0.1", "--save", "", "--dir", folder];
    one.run = new GuardRun([...where, "--", ...server, "--loadmodule", module]);
    await one.run.guarding();
    await fleet.observer.until(`birth of ${device}`, (seen) =>
      seen.some(({ topic }) => topic === `holdfast/1/${device}/birth`),
    );
    expect(await one.redis("set", "kept", device)).toBe("OK");
    return one;
  }

  async redis(...words: readonly string[]): Promise<string> {
    const child = Bun.spawn(["redis-cli", "-p", String(this.#port), ...words], { stdio: ["ignore", "pipe", "ignore"] });
    const text = await child.stdout.text();
    await child.exited;
    return text.trim();
  }

  /** Met once: the fault and its verdict. The server is the same process, and keeps its keys. */
  async meet(): Promise<{ readonly action: string; readonly verdict: string }> {
    const nth = this.run.seen("outcome").length + 1;
    await this.redis("boundary.crash");
    const outcome = await this.run.event("outcome", nth);
    const fault = this.run.seen("fault").find(({ id }) => id === outcome.id) as GuardEvent;
    expect(await this.redis("get", "kept")).toBe(this.device);
    return { action: String(fault.action), verdict: String(outcome.verdict) };
  }

  /** Meetings until the first that is survived cleanly. */
  async trialsToClean(): Promise<{ readonly trials: number; readonly action: string }> {
    for (let trials = 1; trials <= 8; trials += 1) {
      const { action, verdict } = await this.meet();
      if (verdict === "clean") return { trials, action };
      await this.redis("boundary.heal");
    }
    throw new RangeError(`${this.device} never survived it cleanly`);
  }

  /** Waits until so many rescues of others are known here. */
  async knows(hints: number): Promise<void> {
    for (let round = 0; round < 9; round += 1) {
      const { result } = await this.admin.ask(this.device, "diag");
      if (result?.fleet_hints === hints) return;
      await systemClock.sleep(300);
    }
    throw new RangeError(`${this.device} never came to know ${hints} rescues of others`);
  }

  /** The grant by which it may publish: signed by the fleet key, sent as a command. */
  async mayPublish(): Promise<void> {
    const box = await holdfast("keys", "box", "--json", "--state", this.#state, "--name", this.guard);
    const key = (JSON.parse(box.out) as { public: string }).public;
    const file = join(folder, "fleet.key");
    await Bun.write(file, this.fleet.fleetKey.privatePem);
    Bun.spawnSync(["chmod", "600", file]);
    const grant = await holdfast("keys", "grant", key, "--fleet-key", file, "--device", this.device);
    const job = await this.admin.ask(this.device, "keys.grant", `grant=${grant.out.trim()}`);
    expect(job).toMatchObject({ s: "succeeded" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run[Symbol.asyncDispose]();
  }
}

const rescueTree = "holdfast/1/_fleet/rescue/";
const isRecord = ({ topic, payload }: Seen): boolean => topic.startsWith(rescueTree) && payload.length > 0;

/** What somebody without a grant of this fleet, or with a false one, may put at the broker. */
async function publishForgeries({ observer }: Fleet, { topic, payload }: Seen): Promise<void> {
  const [build = "", site = ""] = topic.slice(rescueTree.length).split("/");
  const stranger = newKeyPair();
  const untilSeconds = Math.floor((systemClock.wallMs() + dayMs) / 1000);
  const grant = signGrant(stranger, { key: stranger.public, device: "box-a", notBefore: 0, expiresAt: untilSeconds });
  const { author } = peekGrant(payload);
  expect(author).toMatch(/^[0-9a-f]{16}$/);
  const forged = signRecord(stranger, {
    ...{ build, program: "redis-server", isa: "x64", signal: "segv", rung: 5, candidate: null, returnValue: null },
    ...{ fault: { module: build, offset: 1n }, boundary: null, clean: 1000, degraded: 0, failed: 0, block: false },
    ...{ rev: 2 ** 40, device: "box-a", version: "9", issuedAt: untilSeconds - 86_400, expiresAt: untilSeconds, grant },
  });
  const flipped = new Uint8Array(payload);
  flipped[flipped.length - 1]! ^= 1;
  for (const [at, bytes] of [
    [site, forged],
    [site, flipped],
    [site, new Uint8Array(4096)],
    [site, new Uint8Array([0xff])],
    ["00000000.1-none", payload],
  ] as const) {
    await observer.publish(`${rescueTree}${build}/${at}`, bytes);
  }
}

/** Forgotten by a signed command, a record comes back with its next arrival; blocked by one, it does not. */
async function forgottenThenBlocked(one: RedisBox, { topic, payload }: Seen, observer: Observer): Promise<void> {
  const [build = "", site = ""] = topic.slice(rescueTree.length).split("/");
  const [ask, words] = [
    (verb: string) => one.second.ask(one.device, verb, ...words),
    [`build=${build}`, `site=${site}`],
  ];
  expect(await ask("herd.forget")).toMatchObject({ s: "succeeded", result: { records: 1 } });
  await one.knows(0);
  await observer.publish(topic, payload, { retain: true });
  await one.knows(1);
  expect(await ask("herd.block")).toMatchObject({ s: "succeeded" });
  await one.knows(0);
  await observer.publish(topic, payload, { retain: true });
  await one.second.ask(one.device, "ping");
  await one.knows(0);
}

need(
  "redis-server",
  "redis-cli",
  "gcc",
  "gdbserver",
  "mosquitto",
  tracing,
)(
  "one box learns, another survives at its first meeting; who is outside pays again; forgeries do nothing",
  async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, ["holdfast/#"]);
    const fleet: Fleet = { broker, observer, fleetKey: new Operator(observer) };
    await using a = await RedisBox.start("box-a", "use", fleet);
    await a.mayPublish();
    const learned = await a.trialsToClean();
    expect(learned.trials).toBeGreaterThan(1);
    const record = await observer.until("A's record", (seen) => seen.find(isRecord));

    await using b = await RedisBox.start("box-b", "use", fleet);
    await b.knows(1);
    await publishForgeries(fleet, record);
    await b.knows(1);
    expect(await b.trialsToClean()).toEqual({ trials: 1, action: learned.action });
    await observer.until("B says that the record was used", () =>
      observer.decoded("holdfast/1/box-b/e/suppress").some(({ fleet: used, out }) => used === true && out === "clean"),
    );

    await using c = await RedisBox.start("box-c", "off", fleet);
    expect((await c.trialsToClean()).trials).toBe(learned.trials);
    console.log(`trials to the first clean outcome: herd on 1, herd off ${learned.trials}`);
  },
  timeoutMs,
);

need(
  "redis-server",
  "redis-cli",
  "gcc",
  "gdbserver",
  "mosquitto",
  tracing,
)(
  "a record that does not work here is told to the fleet, and is not first any more; a person forgets or blocks it; watch only tells",
  async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, ["holdfast/#"]);
    const fleet: Fleet = { broker, observer, fleetKey: new Operator(observer) };
    await using a = await RedisBox.start("box-a", "use", fleet);
    await a.mayPublish();
    const learned = await a.trialsToClean();
    const record = await observer.until("A's record", (seen) => seen.find(isRecord));

    await using d = await RedisBox.start("box-d", "use", fleet, "false");
    await d.knows(1);
    expect(await d.meet()).toEqual({ action: learned.action, verdict: "failed" });
    const told = await observer.until("the failure", () => observer.decoded("holdfast/1/box-d/e/herd")[0]);
    expect(told).toMatchObject({ name: "herd.failed", facts: { outcome: "failed" } });
    expect((await d.meet()).action).not.toBe(learned.action);

    await using e = await RedisBox.start("box-e", "use", fleet);
    await e.knows(1);
    await forgottenThenBlocked(e, record, observer);
    expect((await e.meet()).action).not.toBe(learned.action);

    await using w = await RedisBox.start("box-w", "watch", fleet);
    await w.knows(1);
    expect((await w.meet()).action).not.toBe(learned.action);
    const would = await observer.until("what it would have changed", () =>
      observer.decoded("holdfast/1/box-w/e/herd").find(({ name }) => name === "herd.would"),
    );
    expect(would).toMatchObject({ facts: { would: learned.action } });
  },
  timeoutMs,
);
