// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/fleet/simulate.ts [--boxes 1000] [--seconds 60] [--seed 1] [--json FILE]`: a fleet of virtual boxes at a real
 * Mosquitto on loopback. Each box is the real telemetry over a journal and an outbox in memory.
 *
 * Births, metrics, faults; then the broker is killed without persistence, frozen, a tenth of the boxes is taken over by
 * clients of the same name (stale wills), every box gets forged and replayed commands, and eight boxes race to publish a rescue record
 * that all others follow. Prints lost, doubled and late for each class, before and after a reader asked for what it missed.
 */
import { seededRandom, systemClock } from "#clock.ts";
import { publish, readFlags } from "#scripts/bench/benchReport.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { type ClassCount, FleetTally } from "./fleetTally.ts";
import { SimulatedFleet } from "./simulatedFleet.ts";

export type SimulationOptions = { readonly boxes: number; readonly seconds: number; readonly seed: number };
export type SimulationResult = {
  readonly boxes: number;
  readonly births: number;
  readonly connectPeakPerSecond: number;
  readonly before: Readonly<Record<string, ClassCount>>;
  readonly after: Readonly<Record<string, ClassCount>>;
  /** Boxes whose retained state is not "online" of their newest session. */
  readonly staleStates: number;
  readonly forgedSent: number;
  readonly forgedObeyed: number;
  /** Followers whose hint is not the best record. */
  readonly herdDiffer: number;
  readonly rssMiB: number;
};

const metricsEveryMs = 2_000;

export async function simulate(options: SimulationOptions, say: (text: string) => void): Promise<SimulationResult> {
  const random = seededRandom(options.seed);
  const clock = systemClock;
  await using broker = await Mosquitto.start({
    global: ["max_queued_messages 100000", "max_inflight_messages 0", "max_connections -1"],
  });
  const tally = new FleetTally();
  await using fleet = await SimulatedFleet.open(broker, options.boxes, tally, random);
  say(`${options.boxes} boxes, ${fleet.connected} of them connected`);
  const partMs = (options.seconds * 1000) / 6;
  const part = async (name: string, during?: () => Promise<void>): Promise<void> => {
    const endMs = clock.wallMs() + partMs;
    const acted = during?.();
    while (clock.wallMs() < endMs) {
      await fleet.live(metricsEveryMs);
      await clock.sleep(Math.min(metricsEveryMs, Math.max(1, endMs - clock.wallMs())));
    }
    await acted;
    say(`${name}: ${fleet.connected} connected, ${fleet.waiting} messages wait`);
  };
  await part("quiet");
  await part("broker killed, without persistence", async () => {
    await broker.kill();
    await clock.sleep(partMs / 3);
    await broker.start();
    await fleet.reader.subscribeAgain();
  });
  await part("broker frozen", async () => {
    broker.freeze();
    await clock.sleep(partMs / 3);
    broker.thaw();
  });
  await part("boxes taken over", () => fleet.takeOver(Math.ceil(options.boxes / 10)));
  let forged = 0;
  await part("forged and replayed commands", async () => {
    forged = await fleet.forge();
  });
  await part("herd race", () => fleet.race(Math.min(8, options.boxes)));
  await fleet.drained();
  const before = fleet.counts();
  say("the reader asks for what it missed");
  await fleet.resend();
  await fleet.drained();
  return {
    boxes: options.boxes,
    births: tally.births.size,
    connectPeakPerSecond: fleet.connectPeak,
    before,
    after: fleet.counts(),
    staleStates: await fleet.staleStates(),
    forgedSent: forged,
    forgedObeyed: fleet.obeyed,
    herdDiffer: fleet.herdDiffer(),
    rssMiB: Math.round(process.memoryUsage.rss() / 1048576),
  };
}

export function resultLines(result: SimulationResult): string[] {
  const rows = Object.entries(result.after).map(([name, after]) => {
    const before = result.before[name]!;
    const cells = [name, after.sent, before.lost, after.lost, before.doubled, before.late];
    return cells.map((cell, column) => String(cell).padEnd(column === 0 ? 12 : 10)).join("");
  });
  return [
    "class       sent      lost      lost*     doubled   late      (* after the reader asked again)",
    ...rows,
    `births ${result.births} of ${result.boxes}, connects at most ${result.connectPeakPerSecond} in a second`,
    `stale states ${result.staleStates}, forged commands obeyed ${result.forgedObeyed} of ${result.forgedSent}`,
    `boxes with another rescue record than the best ${result.herdDiffer}, memory of all boxes ${result.rssMiB} MiB`,
  ];
}

if (import.meta.main) {
  const { json, numbers } = readFlags(process.argv.slice(2), { boxes: 1000, seconds: 60, seed: 1 });
  const options = { boxes: numbers.boxes!, seconds: numbers.seconds!, seed: numbers.seed! };
  const result = await simulate(options, (line) => console.error(line));
  console.log(resultLines(result).join("\n"));
  if (json !== null) {
    await publish({ name: "fleet", seed: options.seed, rounds: 1, results: { ...result }, failed_runs: [] }, json);
  }
  process.exit(0);
}
