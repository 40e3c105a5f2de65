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
import type { Page } from "../page.ts";
import { limits } from "../settings.ts";
import { redact, withoutClients } from "./redact.ts";
import { type TarFile, tar } from "./tar.ts";

const faultsMax = 50;
const eventsMax = 1_000;

export type BundleOptions = { readonly memory: boolean; readonly clients: boolean };

export function makeBundle(page: Page, options: BundleOptions): { name: string; bytes: Uint8Array<ArrayBuffer> } {
  const { view, record } = page;
  const { told, host, issues, nowMs } = view;
  const file = (name: string, value: unknown): TarFile => {
    const text = redact(`${toJson(value, 1)}\n`);
    return { name, bytes: new TextEncoder().encode(options.clients ? withoutClients(text) : text) };
  };
  const { box, version, runtime, mode, startedMs } = told;
  const files = [
    file("versions.json", { box, version, runtime, mode, startedMs, kernel: host.kernel, atMs: nowMs }),
    file("issues.json", { headline: view.headline, issues }),
    file("workloads.json", told.workloads),
    file("host.json", host),
    file("storage.json", told.storage),
    file("uplink.json", told.uplink),
    file("counters.json", told.counters),
    file("warnings.json", told.warnings),
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
