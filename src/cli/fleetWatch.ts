// SPDX-License-Identifier: Apache-2.0
/**
 * Shows a fleet as it lives: a table that is drawn anew on a terminal, lines elsewhere. Gets the broker; ends with Ctrl-C or
 * after `--seconds`. A lost connection is made again; what was shown stays, and says so.
 */
import { deadline, systemClock } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import { type BoxView, FleetView } from "#telemetry/fleetView.ts";
import type { Link, ReceivedMessage } from "#telemetry/link.ts";
import { FleetTopics } from "#telemetry/topics.ts";
import { type BrokerFlags, openBroker, untilInterrupted } from "./brokerOptions.ts";
import { table } from "./table.ts";

const drawMs = 500;
const retryMs = 2_000;
const clearScreen = "\x1b[H\x1b[2J";
const rowsWithoutScreen = 40;

export type WatchFlags = BrokerFlags & { readonly seconds?: number; readonly json?: true };

export async function watch(flags: WatchFlags): Promise<void> {
  const view = new FleetView(new FleetTopics(flags.root));
  const receive = async ({ topic, payload, retain }: ReceivedMessage): Promise<void> =>
    view.take(topic, payload, retain, systemClock.wallMs());
  const print = flags.json ? jsonPrinter() : process.stdout.isTTY ? tablePrinter() : changePrinter();
  await untilInterrupted(async (signal) => {
    const over = (): Error => new TelemetryError("telemetry.closed", "watched long enough");
    using patience = deadline((flags.seconds ?? 1e6) * 1000, over, signal);
    try {
      await watchLinks(flags, view, receive, print, patience.signal);
    } catch (error) {
      if (!patience.signal.aborted) throw error;
    }
    print(view.rows(), "");
  });
}

async function watchLinks(
  flags: WatchFlags,
  view: FleetView,
  receive: (message: ReceivedMessage) => Promise<void>,
  print: Print,
  signal: AbortSignal,
): Promise<void> {
  // The first connection must work: a wrong address is the caller's to know at once.
  let link: Link | null = await openBroker(flags, receive, signal);
  for (;;) {
    if (link !== null) {
      await using open = link;
      await open.subscribe(view.filters, 0);
      let live = true;
      void open.ended.then(() => {
        live = false;
      });
      while (live) {
        print(view.rows(), "");
        await systemClock.sleep(drawMs, signal);
      }
    }
    print(view.rows(), "the connection is lost; what follows is how it was");
    await systemClock.sleep(retryMs, signal);
    link = await openBroker(flags, receive, signal).catch((error: unknown) => {
      if (error instanceof TelemetryError) return null;
      throw error;
    });
  }
}

type Print = (rows: readonly BoxView[], trouble: string) => void;

const cells = (box: BoxView, nowMs: number): string[] => [
  box.device,
  box.state === "online" ? box.health : box.state,
  sinceText(box, nowMs),
  String(box.faults),
  String(box.failed),
  box.alarms.join(" "),
  box.last,
];

function tablePrinter(): Print {
  return (rows, trouble) => {
    const shown = rows.slice(0, Math.max(1, (process.stdout.rows ?? rowsWithoutScreen) - 4));
    const nowMs = systemClock.wallMs();
    const lost = rows.filter(({ state }) => state === "lost").length;
    const head = `${rows.length} boxes, ${lost} lost${trouble === "" ? "" : `   (${trouble})`}`;
    const heading = ["BOX", "STATE", "SINCE", "FAULTS", "FAILED", "ALARMS", "LAST"];
    const text = table(
      heading,
      shown.map((box) => cells(box, nowMs)),
    );
    process.stdout.write(`${clearScreen}${head}\n${text}`);
  };
}

/** One line for a box whenever it differs from its last one. */
function changePrinter(): Print {
  const said = new Map<string, string>();
  return (rows) => {
    for (const box of rows) {
      const { device, state, health, faults, failed, alarms, last } = box;
      const words = [device, state, state === "online" ? health : "", `faults ${faults}`, `failed ${failed}`];
      const line = [...words, alarms.join(" "), last].filter((word) => word !== "").join("  ");
      // How long it has been so is no news.
      if (said.get(device) !== line) process.stdout.write(`${line}  since ${sinceText(box, systemClock.wallMs())}\n`);
      said.set(device, line);
    }
  };
}

function jsonPrinter(): Print {
  const said = new Map<string, string>();
  return (rows) => {
    for (const box of rows) {
      const line = JSON.stringify(box);
      if (said.get(box.device) !== line) process.stdout.write(`${line}\n`);
      said.set(box.device, line);
    }
  };
}

/** "before": it was so when we came, and does not say since when. */
const sinceText = ({ sinceMs }: BoxView, nowMs: number): string => (sinceMs === null ? "before" : age(nowMs - sinceMs));

function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
