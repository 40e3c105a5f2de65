// SPDX-License-Identifier: Apache-2.0
/**
 * The diagnostics bundle: one `.tar.gz` of what a helper needs, with a manifest of hashes, the same order every time.
 *
 * Secrets are taken out of every file. Registers and stack memory of faults can be data of users: they are left out unless
 * an admin wants them in. At most 20 MiB: the oldest faults are left out first.
 */
import { toJson } from "#bytes.ts";
import { explain } from "#errors.ts";
import type { FaultReport } from "#fault.ts";
import { type FaultRecord, readFault } from "#storage/journalReader.ts";
import { metricsText } from "../api/metricsText.ts";
import type { Page } from "../page.ts";
import { limits } from "../settings.ts";
import { kernelLog, logText, readLogs } from "./logs.ts";
import { redact, withoutClients } from "./redact.ts";
import { type TarFile, tar } from "./tar.ts";

const faultsMax = 50;
const eventsMax = 1_000;
const logMs = 24 * 3_600_000;

export type BundleOptions = { readonly memory: boolean; readonly clients: boolean };

/** Every file, and what it is: shown before anything is made. */
export const bundleFiles: readonly (readonly [name: string, what: string])[] = [
  ["MANIFEST.sha256", "the hash of each file"],
  ["versions.json", "of Holdfast, its runtime and the kernel; since when it runs"],
  ["issues.json", "the verdict and the open issues"],
  ["workloads.json", "programs and guests, and how they are"],
  ["host.json", "load, pressure, memory, heat, disk, clock"],
  ["monitor.json", "what the monitor sees: flash, links, counters, detectors"],
  ["storage.json", "the state of the record"],
  ["uplink.json", "the broker, the outbox, the client certificate"],
  ["update.json", "slots, updates, rollbacks, and why the box was started"],
  ["checkpoints.json", "of guests: when, how large, proven or not"],
  ["metrics.txt", "all figures, as a scraper sees them"],
  ["counters.json", "whether the processor counts, or why not"],
  ["warnings.json", "of this supervisor"],
  ["journal.log", "its last lines in the journal of the init system"],
  ["kernel.log", "the kernel's last lines there"],
  ["events.json", `the newest ${eventsMax} events`],
  ["faults.json", "all faults, a line each"],
  ["faults/ID.json", `the newest ${faultsMax} faults with stack, acts and reasons`],
];

export async function makeBundle(
  page: Page,
  options: BundleOptions,
): Promise<{ name: string; bytes: Uint8Array<ArrayBuffer> }> {
  const { view, record } = page;
  const { told, host, issues, nowMs } = view;
  const plain = (name: string, words: string): TarFile => {
    const text = redact(words);
    return { name, bytes: new TextEncoder().encode(options.clients ? withoutClients(text) : text) };
  };
  const file = (name: string, value: unknown): TarFile => plain(name, `${toJson(value, 1)}\n`);
  const log = async (name: string, unit: string): Promise<TarFile> => {
    const logs = await readLogs({ unit, level: 7, text: "", sinceMs: logMs, untilMs: 0 }, nowMs);
    return plain(name, logs.known ? logText(logs) : `not available: ${logs.why}\n`);
  };
  const { box, version, runtime, mode, startedMs } = told;
  const files = [
    file("versions.json", { box, version, runtime, mode, startedMs, kernel: host.kernel, atMs: nowMs }),
    file("issues.json", { headline: view.headline, issues }),
    file("workloads.json", told.workloads),
    file("host.json", host),
    file("monitor.json", told.monitor),
    file("storage.json", told.storage),
    file("uplink.json", told.uplink),
    file("update.json", { update: told.update, lock: told.updateLock, boots: told.boots }),
    file("checkpoints.json", told.checkpoints),
    plain("metrics.txt", metricsText(view, record)),
    file("counters.json", told.counters),
    file("warnings.json", told.warnings),
    await log("journal.log", ""),
    await log("kernel.log", kernelLog),
    file("events.json", record.events({ limit: eventsMax })),
    file("faults.json", record.faults({ limit: limits.faultsKept })),
  ];
  let size = files.reduce((sum, each) => sum + each.bytes.length, 0);
  for (const fault of record.faults({ limit: faultsMax })) {
    const made = file(`faults/${fault.id}.json`, readOne(page.directory, fault.id, options.memory));
    size += made.bytes.length;
    if (size > limits.bundleBytesMax) break;
    files.push(made);
  }
  const manifest = files.map(
    ({ name, bytes }) => `${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}  ${name}\n`,
  );
  const all = [{ name: "MANIFEST.sha256", bytes: new TextEncoder().encode(manifest.join("")) }, ...files];
  const stamp = new Date(nowMs).toISOString().slice(0, 19).replaceAll(":", "");
  return { name: `holdfast-${stamp}.tar.gz`, bytes: Bun.gzipSync(tar(all, nowMs / 1_000)) };
}

function readOne(directory: string, id: string, memory: boolean): unknown {
  try {
    const record = readFault(directory, id);
    return memory ? record : withoutMemory(record);
  } catch (error) {
    return { id, problem: explain(error) };
  }
}

/** The record without anything that was in registers or memory of the program. */
export function withoutMemory(record: FaultRecord): unknown {
  const { report, ...rest } = record;
  return { ...rest, report: report === null ? null : bareReport(report) };
}

function bareReport(report: FaultReport): unknown {
  const { registers: _registers, stack: _stack, frames, ...rest } = report;
  return { ...rest, frames: frames.map(({ registers: _own, ...frame }) => frame) };
}
