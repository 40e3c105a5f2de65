// SPDX-License-Identifier: Apache-2.0
/**
 * A made-up box on a made-up day, with every part of the page filled: for browsers and for the pictures of the README.
 *
 * Gets the time; gives what the supervisor would tell, and writes a day of history. Figures are plausible, not measured.
 */
import { absent, type CounterReading, seen, type WorkloadCounters } from "#health.ts";
import { sampleOf } from "#metrics.ts";
import type { LookTold, Told } from "#status/told.ts";
import type { Storage } from "#storage/storage.ts";
import { workload } from "./pageHost.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const mebibyte = 2 ** 20;

/** Two programs and a guest whose memory still arrives; broker, checkpoints and boots. */
export const busyBox = (nowMs: number): Partial<Told> => ({
  workloads: [
    workload("shop", { pid: 812, threads: 9, verbs: ["workload.restart", "workload.hold", "suppression.off"] }),
    workload("mail", { pid: 815, protected: false, suppressionOff: true, verbs: ["suppression.on"] }),
    workload("cache", {
      kind: "guest",
      state: "up",
      pid: 640,
      restarts: { used: 1, max: 5 },
      programs: ["redis"],
      verbs: ["workload.restart", "workload.hold", "guest.restore"],
      arriving: {
        checkpoint: "cache-20261122T170000Z",
        mode: "lazy",
        contentBytes: 812 * mebibyte,
        prefetchedBytes: 96 * mebibyte,
        demandedBytes: 21 * mebibyte,
        backgroundBytes: 240 * mebibyte,
        waitUsP50: 50,
        waitUsP99: 2_000,
      },
      standby: { state: "none", checkpoint: null, pid: null, why: "only 96 MiB of memory are available" },
    }),
  ],
  uplink: {
    known: true,
    value: {
      broker: "mqtts://broker.example:8883",
      connected: true,
      sinceMs: nowMs - 5 * hourMs,
      why: null,
      lastAckMs: nowMs - 4_000,
      waitingMessages: 3,
      oldestMs: nowMs - 2_000,
      droppedRows: 0,
      certificateEndsMs: nowMs + 21.5 * dayMs,
    },
  },
  counters: { known: true, value: { kind: "hardware", why: "" } },
  checkpoints: {
    known: true,
    value: [0, 1, 2].map((index) => ({
      guest: "cache",
      id: `cache-2026112${2 - index}T170000Z`,
      atMs: nowMs - (index + 0.5) * dayMs,
      bytes: (70 - 9 * index) * mebibyte,
      good: index > 0,
    })),
  },
  boots: [
    { atMs: nowMs - 40 * dayMs, reason: "first", why: "no earlier boot is on record" },
    { atMs: nowMs - 12 * dayMs, reason: "watchdog", why: "the hardware watchdog reset the box (boot status 32)" },
    { atMs: nowMs - 3 * dayMs, reason: "orderly", why: "the boot before ended in order" },
  ],
  boxVerbs: ["reboot", "maintenance", "wipe", "update.rollback", "update.install"],
  warnings: [{ atMs: nowMs - hourMs, workload: "cache", text: "guest cache: no checkpoint was taken: it is busy" }],
  monitor: busyLook(nowMs),
  metrics: [
    sampleOf("herd_records", [], 12),
    sampleOf("herd_used_total", ["clean"], 2),
    sampleOf("herd_ignored_total", ["expired"], 1),
    sampleOf("herd_published_total", [], 4),
  ],
});

/** Totals grow with the time, so that two looks give rates. */
export function busyLook(nowMs: number): LookTold {
  const seconds = (nowMs % dayMs) / 1_000;
  return {
    atMs: nowMs,
    host: {
      atMs: nowMs,
      processors: 8,
      processorSeconds: 8 * seconds,
      busySeconds: 2.1 * seconds,
      pressure: absent("this kernel has no pressure stall information", "boot with psi=1"),
      memory: absent("not asked"),
      temperatures: absent("no sensor"),
      throttling: seen({ times: 2, cooling: [{ device: "fan", state: 1, stateMax: 4 }] }),
      disks: [],
      flash: seen([{ device: "mmcblk0", kind: "emmc", usedRatio: 0.3, spare: "normal" }]),
      clock: seen({ synced: true, offsetSeconds: 0.00031, errorSecondsMax: 0.012 }),
      links: [link("eth0", true, 1_000, seconds), link("wlan0", false, null, 0)],
    },
    counters: [counted("shop", nowMs, seconds, null), counted("cache", nowMs, seconds, guestExits)],
    detections: [
      {
        detector: "leak",
        workload: "mail",
        kind: "raised",
        atMs: nowMs - hourMs,
        sinceMs: nowMs - 5 * hourMs,
        text: "its memory grows by 14 MiB an hour",
        evidence: {},
      },
    ],
  };
}

const link = (name: string, up: boolean, megabitsPerSecond: number | null, seconds: number) => ({
  ...{ name, up, megabitsPerSecond, receivedBytes: 90_000 * seconds, sentBytes: 41_000 * seconds },
  ...{ errors: 0, dropped: up ? 3 : 0 },
});

const guestExits = { mmio: 91_233, halt: 1_204_551, irq: 88_120 };

function counted(
  workload: string,
  atMs: number,
  seconds: number,
  exits: Readonly<Record<string, number>> | null,
): WorkloadCounters {
  const reading = (event: CounterReading["event"], perSecond: number | null, runningRatio = 1): CounterReading => ({
    ...{ event, cluster: "", total: perSecond === null ? null : Math.round(perSecond * seconds), runningRatio },
  });
  const readings = [
    reading("cycles", 412e6, 0.83),
    reading("instructions", 655e6, 0.83),
    reading("cache_misses", 1.9e6, 0.83),
    reading("branch_misses", 2.4e6, 0.83),
    reading("stalled_frontend", null, 0),
    reading("task_clock", 0.17e9),
    reading("page_faults", 12),
    reading("context_switches", 1_530),
  ];
  const threads = exits === null ? 9 : 4;
  return { workload, atMs, threads, readings, exits: exits === null ? absent("it is no guest") : seen(exits) };
}

/** All series of the box. */
const boxSeries = [
  ["cpu_ratio", "/", 0.2],
  ["memory_available_bytes", "B", 2.1e9],
  ["swap_free_bytes", "B", 0.5e9],
  ["temperature_celsius", "Cel", 51],
  ["disk_free_bytes", "B", 11e9],
  ["cpu_pressure_ratio", "/", 0.08],
  ["memory_pressure_ratio", "/", 0.01],
  ["io_pressure_ratio", "/", 0.03],
] as const;

/** Samples of the last day, a minute apart, with an hour in which nobody sampled. */
export async function dayOfHistory(storage: Storage, at: { shiftMs: number }): Promise<void> {
  const stepMs = 60_000;
  for (let agoMs = dayMs; agoMs >= 0; agoMs -= stepMs) {
    if (agoMs > 9 * hourMs && agoMs < 10 * hourMs) continue;
    at.shiftMs = -agoMs;
    const turn = (agoMs / dayMs) * 2 * Math.PI;
    for (const [name, unit, middle] of boxSeries) {
      storage.sample(name, "", middle * (1 + 0.4 * Math.sin(5 * turn + middle)), unit);
    }
    storage.sample("processors", "shop", 0.4 + 0.3 * Math.sin(3 * turn));
    if (agoMs % (120 * stepMs) === 0) await storage.flush(undefined, "history");
  }
  at.shiftMs = 0;
  await storage.flush(undefined, "history");
}
