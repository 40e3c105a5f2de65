// SPDX-License-Identifier: Apache-2.0
/**
 * The REST calls that we make: name, method, what goes in, how what comes back is read, and how long it may take.
 *
 * Answers are decoded as from a hostile peer: a value of the wrong kind is `hypervisor.message`, never half an object.
 * Source: `vmm/src/api/http/mod.rs` (routes) and `vmm/src/api/openapi/cloud-hypervisor.yaml`, v53.0.
 */
import { HypervisorError } from "#errors.ts";
import {
  type AddedDevice,
  type DiskConfig,
  type NetConfig,
  type Ping,
  type ReceiveMigration,
  type Resize,
  type Restore,
  reportedStates,
  type SendMigration,
  type VmConfig,
  type VmCounters,
  type VmReport,
  type VsockConfig,
} from "./vmConfig.ts";

/** What each call takes and gives. */
export type Calls = {
  "vmm.ping": [undefined, Ping];
  "vmm.shutdown": [undefined, undefined];
  "vm.info": [undefined, VmReport];
  "vm.counters": [undefined, VmCounters];
  "vm.create": [VmConfig, undefined];
  "vm.delete": [undefined, undefined];
  "vm.boot": [undefined, undefined];
  "vm.pause": [undefined, undefined];
  "vm.resume": [undefined, undefined];
  "vm.shutdown": [undefined, undefined];
  "vm.reboot": [undefined, undefined];
  "vm.power-button": [undefined, undefined];
  "vm.resize": [Resize, undefined];
  "vm.add-device": [{ readonly path: string; readonly id?: string }, AddedDevice | undefined];
  "vm.add-disk": [DiskConfig, AddedDevice | undefined];
  "vm.add-net": [NetConfig, AddedDevice | undefined];
  "vm.add-vsock": [VsockConfig, AddedDevice | undefined];
  "vm.remove-device": [{ readonly id: string }, undefined];
  "vm.snapshot": [{ readonly destination_url: string }, undefined];
  "vm.restore": [Restore, undefined];
  "vm.send-migration": [SendMigration, undefined];
  "vm.receive-migration": [ReceiveMigration, undefined];
};
export type CallName = keyof Calls;
export type CallBody<Name extends CallName> = Calls[Name][0];
export type CallAnswer<Name extends CallName> = Calls[Name][1];

type Route<Name extends CallName> = {
  readonly method: "GET" | "PUT";
  readonly timeoutMs: number;
  readonly read: (body: unknown, name: Name) => CallAnswer<Name>;
};

const quickMs = 5_000;
/** Boot and reboot load images from disk; the rest of the control thread's work queues behind them. */
const bootMs = 60_000;
/** As long as all memory needs to be written or read. */
const bulkMs = 3_600_000;

const nothing = (): undefined => undefined;
const put = { method: "PUT", timeoutMs: quickMs, read: nothing } as const;
const get = { method: "GET", timeoutMs: quickMs } as const;
const add = { method: "PUT", timeoutMs: quickMs, read: readAddedDevice } as const;

export const routes: { readonly [Name in CallName]: Route<Name> } = {
  "vmm.ping": { ...get, read: readPing },
  "vmm.shutdown": put,
  "vm.info": { ...get, read: readReport },
  "vm.counters": { ...get, read: readCounters },
  "vm.create": put,
  "vm.delete": put,
  "vm.boot": { ...put, timeoutMs: bootMs },
  "vm.pause": put,
  "vm.resume": put,
  "vm.shutdown": { ...put, timeoutMs: bootMs },
  "vm.reboot": { ...put, timeoutMs: bootMs },
  "vm.power-button": put,
  "vm.resize": put,
  "vm.add-device": add,
  "vm.add-disk": add,
  "vm.add-net": add,
  "vm.add-vsock": add,
  "vm.remove-device": put,
  "vm.snapshot": { ...put, timeoutMs: bulkMs },
  "vm.restore": { ...put, timeoutMs: bulkMs },
  "vm.send-migration": put,
  "vm.receive-migration": { ...put, timeoutMs: bulkMs },
};

function readPing(body: unknown, name: CallName): Ping {
  const fields = record(body, name);
  return {
    version: text(fields.version, name, "version"),
    buildVersion: typeof fields.build_version === "string" ? fields.build_version : null,
    pid: integer(fields.pid, name, "pid"),
    features: Array.isArray(fields.features) ? fields.features.filter((item) => typeof item === "string") : [],
  };
}

function readReport(body: unknown, name: CallName): VmReport {
  const fields = record(body, name);
  const state = reportedStates.find((known) => known === fields.state);
  if (state === undefined) throw wrong(name, "state");
  return {
    state,
    // Sent by ourselves and given back; only what we put in is ever read from it.
    config: record(fields.config, name) as VmConfig,
    memoryActualBytes: integer(fields.memory_actual_size, name, "memory_actual_size"),
  };
}

function readCounters(body: unknown, name: CallName): VmCounters {
  return Object.fromEntries(
    Object.entries(record(body, name)).map(([device, counters]) => [
      device,
      Object.fromEntries(
        Object.entries(record(counters, name)).map(([key, value]) => [key, integer(value, name, key)]),
      ),
    ]),
  );
}

/** A VM that is not booted yet answers with nothing: the device has no place so far. */
function readAddedDevice(body: unknown, name: CallName): AddedDevice | undefined {
  if (body === undefined) return undefined;
  const fields = record(body, name);
  return { id: text(fields.id, name, "id"), bdf: text(fields.bdf, name, "bdf") };
}

const wrong = (name: CallName, field: string): HypervisorError =>
  new HypervisorError("hypervisor.message", `the answer to ${name} has no usable ${field}`, { call: name });

function record(value: unknown, name: CallName): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(name, "object");
  return value as Record<string, unknown>;
}

function text(value: unknown, name: CallName, field: string): string {
  if (typeof value !== "string") throw wrong(name, field);
  return value;
}

/** Counters above 2^53 lose their last digits, which is right for a picture and wrong for nothing we do. */
function integer(value: unknown, name: CallName, field: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(name, field);
  return value;
}
