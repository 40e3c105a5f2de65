// SPDX-License-Identifier: Apache-2.0
/**
 * Many boxes at one broker, and one reader. Gets a broker and a number; gives what can happen to them, and what the reader
 * saw. For the simulator.
 */
import { type Random, systemClock } from "#clock.ts";
import { signCommand } from "#telemetry/command.ts";
import { score } from "#telemetry/herdOrder.ts";
import type { Learned } from "#telemetry/herdPublisher.ts";
import { publicKey } from "#telemetry/keys.ts";
import { Link } from "#telemetry/link.ts";
import { signGrant } from "#telemetry/rescueRecord.ts";
import { brokerDefaults } from "#telemetry/settings.ts";
import { TrustList } from "#telemetry/trust.ts";
import { boxFacts, openBox, type TestBox } from "#tests/peers/box.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";
import type { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import type { ClassCount, FleetTally } from "./fleetTally.ts";
import { buildId, fleetPair, operatorPair, record, seededPair } from "./vectorValues.ts";

const root = "holdfast/1";
const drainMs = 60_000;
const followersMax = 200;
const onlookersMax = 32;
/** Settings of a box in a hurry; everything else is as on a real one. */
const reconnect = { leastMs: 200, mostMs: 5_000, spreadMs: 5_000, busyMs: 5_000, healthyMs: 60_000 };
const broker = { keepAliveMs: 5_000, connectMs: 10_000, ackMs: 15_000, willDelaySeconds: 0 };

export class SimulatedFleet implements AsyncDisposable {
  readonly boxes: TestBox[] = [];
  readonly reader: Observer;
  readonly #broker: Mosquitto;
  readonly #tally: FleetTally;
  readonly #random: Random;
  readonly #connects = new Map<number, number>();
  readonly #stop = new AbortController();
  #points = 0;
  #round = 0;
  obeyed = 0;

  static async open(broker: Mosquitto, count: number, tally: FleetTally, random: Random): Promise<SimulatedFleet> {
    const filters = ["birth", "e/+", "m/+", "h/+"].map((name) => `${root}/+/${name}`);
    const take = (topic: string, payload: Uint8Array): void => {
      const [, , device = "", kind = ""] = topic.split("/");
      tally.take(device, kind, payload, systemClock.wallMs());
    };
    const reader = await Observer.open(broker.url, filters, {}, take);
    const fleet = new SimulatedFleet(broker, reader, tally, random);
    for (let index = 0; index < count; index += 1) fleet.#add(index);
    await fleet.#until(() => fleet.connected === count);
    return fleet;
  }

  private constructor(mosquitto: Mosquitto, reader: Observer, tally: FleetTally, random: Random) {
    this.#broker = mosquitto;
    this.reader = reader;
    this.#tally = tally;
    this.#random = random;
  }

  get connected(): number {
    return this.boxes.filter(({ telemetry }) => telemetry.connected).length;
  }
  get waiting(): number {
    return this.boxes.reduce((sum, { outbox }) => sum + outbox.depth("event").rows + outbox.depth("metric").rows, 0);
  }
  get connectPeak(): number {
    return Math.max(0, ...this.#connects.values());
  }

  /** A moment of life: metrics of every box, and a fault on some. */
  async live(everyMs: number): Promise<void> {
    const atMs = systemClock.wallMs();
    this.#round += 1;
    for (const { telemetry, feed } of this.boxes) {
      const value = this.#round;
      telemetry.metrics({
        group: "self",
        atMs,
        samples: [{ kind: "value", name: "self_open_fds", labels: [], value }],
      });
      this.#points += 1;
      // About one fault a minute and box.
      if (this.#random() < everyMs / 60_000) feed.fault("redis", this.#random() < 0.9 ? "clean" : "failed");
    }
  }

  /** Other clients with the names of some boxes come and go: the broker says the wills of the boxes, or of the others. */
  async takeOver(count: number): Promise<void> {
    for (const { telemetry } of this.boxes.slice(0, count)) {
      const { device, state } = telemetry.topics;
      const will = { topic: state, payload: '{"v":1,"s":"lost","sid":1,"boot":"other"}' };
      const settings = { ...brokerDefaults, ...broker, url: this.#broker.url };
      const { signal } = this.#stop;
      const receive = async (): Promise<void> => {};
      const shared = { broker: settings, clientId: device, will, session: true, receive, clock: systemClock, signal };
      const link = await Link.open({ ...shared, protocol: 5 });
      await link.ended;
    }
  }

  /** Commands that nobody may give: unsigned, of a stranger, for another box, replayed. Gives how many. */
  async forge(): Promise<number> {
    const stranger = seededPair(99);
    const iat = Math.floor(systemClock.wallMs() / 1000);
    let sent = 0;
    for (const [index, { telemetry }] of this.boxes.entries()) {
      const { device } = telemetry.topics;
      const topic = `${root}/${device}/cmd/workload.restart`;
      const command = {
        verb: "workload.restart",
        args: { w: "redis" },
        iat,
        exp: iat + 600,
        role: "operate",
        ctr: index,
      } as const;
      const own = { ...command, dev: device, id: `forged-${index}` };
      const elsewhere = signCommand(operatorPair, { ...own, dev: "another" });
      for (const payload of [new Uint8Array(40).fill(0x81), signCommand(stranger, own), elsewhere]) {
        await this.reader.publish(topic, payload);
        sent += 1;
      }
    }
    return sent;
  }

  /** Some boxes learn about one site at once, each with other evidence; they and many others end on one record. */
  async race(count: number): Promise<void> {
    for (const { telemetry } of this.#followers) telemetry.follow([buildId]);
    const { program, isa, signal, fault, boundary, rung, candidate, returnValue } = record(new Uint8Array());
    const site = { build: buildId, program, isa, signal, fault, boundary, rung, candidate, returnValue };
    for (const { telemetry } of this.boxes.slice(0, count)) {
      const clean = 2 + Math.floor(this.#random() * 900);
      const learned: Learned = { ...site, clean, degraded: 0, failed: 0, lastFaultMs: 0 };
      telemetry.learned(learned);
    }
    await this.#until(() => this.herdDiffer() === 0);
  }

  herdDiffer(): number {
    const hints = this.#followers.map(({ telemetry }) => telemetry.hints(buildId)[0]);
    const best = hints.reduce(
      (a, b) => (a === undefined || (b !== undefined && score(b as never) > 0 && b.score > a.score) ? b : a),
      hints[0],
    );
    return hints.filter((hint) => hint === undefined || hint.author !== best?.author || hint.rev !== best.rev).length;
  }

  /** The reader asks every box for all its events again, as a reader that sees a gap would for a part of them. */
  async resend(): Promise<void> {
    const iat = Math.floor(systemClock.wallMs() / 1000);
    for (const [index, { telemetry, feed }] of this.boxes.entries()) {
      const { device } = telemetry.topics;
      const args = { from: 1, to: Math.max(1, feed.cursor) };
      const command = {
        dev: device,
        verb: "resend",
        args,
        id: `resend-${index}`,
        ctr: 10_000 + index,
        iat,
        exp: iat + 600,
        role: "view",
      } as const;
      await this.reader.publish(`${root}/${device}/cmd/resend`, signCommand(operatorPair, command));
    }
    await this.#until(() =>
      this.boxes.every(({ feed }) => feed.recorded("audit.job").some(({ verb }) => verb === "resend")),
    );
  }

  /** Nothing waits anywhere, and the reader has been quiet for a second. */
  async drained(): Promise<void> {
    await this.#until(() => this.waiting === 0 && this.connected === this.boxes.length);
    for (let before = -1; before !== this.reader.count; ) {
      before = this.reader.count;
      await systemClock.sleep(1_000);
    }
  }

  counts(): Record<string, ClassCount> {
    return { ...this.#tally.events(this.boxes.map(({ feed }) => feed)), points: this.#tally.points(this.#points) };
  }

  /** Boxes that the broker remembers as anything but online. */
  async staleStates(): Promise<number> {
    let stale = 0;
    const left = [...this.boxes];
    const look = async (): Promise<void> => {
      for (let box = left.pop(); box !== undefined; box = left.pop()) {
        await using late = await Observer.open(this.#broker.url, [box.telemetry.topics.state]);
        const state = await late.until("a state", (seen) => seen[0]);
        if (JSON.parse(new TextDecoder().decode(state.payload)).s !== "online") stale += 1;
      }
    };
    await Promise.all(Array.from({ length: onlookersMax }, look));
    return stale;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.boxes.map((box) => box[Symbol.asyncDispose]()));
    await this.reader[Symbol.asyncDispose]();
  }

  get #followers(): readonly TestBox[] {
    return this.boxes.slice(0, followersMax);
  }

  #add(index: number): void {
    const device = `sim-${String(index).padStart(4, "0")}`;
    const outbox = new MemoryOutbox();
    const trust = new TrustList(outbox);
    const dates = { notBefore: 0, expiresAt: 2 ** 33 };
    trust.add({ key: operatorPair.public, use: "operate", name: "operator", ...dates });
    trust.add({ key: fleetPair.public, use: "fleet", name: "fleet", ...dates });
    const box = openBox(this.#broker.url, {
      ...{ device, outbox, broker },
      settings: { reconnect, drainPerSecond: 20, herd: "use" },
      more: { random: this.#random, herdTimes: { quietMs: 0, siteIntervalMs: 1_000, repeatMs: [500, 3_000] } },
    });
    const key = publicKey(box.telemetry.herdKey);
    const grant = signGrant(fleetPair, { key, device, notBefore: 0, expiresAt: 2 ** 33 });
    outbox.putNote("herdKey", "grant", new Uint8Array(grant).toBase64());
    box.telemetry.birth(boxFacts);
    this.boxes.push(box);
    void this.#count(box);
    void this.#obey(box);
  }

  /** Counts connects by the second. */
  async #count({ telemetry }: TestBox): Promise<void> {
    let was = false;
    try {
      for await (const _ of telemetry.changes(this.#stop.signal)) {
        const second = Math.floor(systemClock.wallMs() / 1000);
        if (telemetry.connected && !was) this.#connects.set(second, (this.#connects.get(second) ?? 0) + 1);
        was = telemetry.connected;
      }
    } catch {
      // The simulation is over.
    }
  }

  async #obey({ telemetry }: TestBox): Promise<void> {
    try {
      for await (const job of telemetry.requests(this.#stop.signal)) {
        this.obeyed += 1;
        await job.finish({ kind: "succeeded" });
      }
    } catch {
      // The simulation is over.
    }
  }

  async #until(holds: () => boolean): Promise<void> {
    const endNs = systemClock.monotonicNs() + drainMs * 1e6;
    while (!holds() && systemClock.monotonicNs() < endNs) await systemClock.sleep(100);
  }
}
