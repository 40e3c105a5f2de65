// SPDX-License-Identifier: Apache-2.0
/**
 * Events of Cloud Hypervisor's monitor: bytes in, typed events out, at any split.
 *
 * On the wire each event is one pretty-printed JSON object followed by an empty line; there is no other framing, and
 * no raw line break inside a string. Limits: `eventBytesMax` a record. What cannot be read is an event too, kind
 * `unreadable`, so a damaged record never hides the next. Source: `event_monitor/src/lib.rs` and the `event!` calls,
 * v53.0.
 */

export const eventBytesMax = 64 << 10;
const separator = "\n\n";

/** Events without details of their own. */
const plainKinds = [
  "vmm.starting",
  "vmm.shutdown",
  "vm.booting",
  "vm.booted",
  "vm.rebooting",
  "vm.rebooted",
  "vm.shutdown",
  "vm.deleted",
  "vm.pausing",
  "vm.paused",
  "vm.resuming",
  "vm.resumed",
  "vm.resizing",
  "vm.resized",
  "vm.snapshotting",
  "vm.snapshotted",
  "vm.restoring",
  "vm.restored",
  "vm.migration-started",
  "vm.migration-finished",
  "vm.migration-failed",
  "vm.migration-receive-ready",
  "vm.migration-receive-started",
  "vm.migration-receive-finished",
  "vm.migration-receive-failed",
  "vm.postcopy-migration-completed",
] as const;
export type PlainKind = (typeof plainKinds)[number];

/** `sinceStartMs`: since the process of Cloud Hypervisor started. */
export type MonitorEvent = { readonly sinceStartMs: number } & (
  | { readonly kind: PlainKind }
  /** The guest's kernel says through pvpanic that it is lost (`panic`) or that its crash kernel takes over. */
  | { readonly kind: "guest.panic"; readonly what: "panic" | "crash_loaded" | "unknown_event" }
  | { readonly kind: "vm.migration-memory-iteration"; readonly iteration: number }
  | { readonly kind: "vm.device-removed"; readonly id: string; readonly bdf: string }
  | { readonly kind: "device.activated" | "device.reset"; readonly id: string }
  | { readonly kind: "other"; readonly source: string; readonly event: string }
  | { readonly kind: "unreadable"; readonly text: string }
);

export class MonitorFrames {
  #rest = "";
  readonly #decoder = new TextDecoder();

  /** The events that these bytes complete. */
  push(bytes: Uint8Array): MonitorEvent[] {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const pieces = this.#rest.split(separator);
    this.#rest = pieces.pop()!;
    const events = pieces.filter((piece) => piece.trim() !== "").map(readEvent);
    if (this.#rest.length > eventBytesMax) {
      events.push(unreadable(this.#rest));
      this.#rest = "";
    }
    return events;
  }
}

/** One record. Total. */
export function readEvent(text: string): MonitorEvent {
  try {
    return text.length > eventBytesMax ? unreadable(text) : decode(JSON.parse(text), text);
  } catch {
    return unreadable(text);
  }
}

const unreadable = (text: string): MonitorEvent => ({
  kind: "unreadable",
  sinceStartMs: 0,
  text: text.slice(0, 200),
});

type Fields = { readonly [key: string]: unknown };

function decode(value: unknown, text: string): MonitorEvent {
  const { timestamp, source, event, properties } = fieldsOf(value);
  const { secs, nanos } = fieldsOf(timestamp);
  if (typeof source !== "string" || typeof event !== "string") return unreadable(text);
  if (!Number.isSafeInteger(secs) || !Number.isSafeInteger(nanos)) return unreadable(text);
  const sinceStartMs = Number(secs) * 1000 + Number(nanos) / 1e6;
  return { sinceStartMs, ...detailed(source, event, fieldsOf(properties ?? {})) };
}

type Untimed = MonitorEvent extends infer Event ? (Event extends unknown ? Omit<Event, "sinceStartMs"> : never) : never;

function detailed(source: string, event: string, properties: Fields): Untimed {
  const name = `${source}.${event}`;
  const plain = plainKinds.find((kind) => kind === name);
  if (plain !== undefined) return { kind: plain };
  const { id, bdf } = properties;
  if (name === "guest.panic") {
    const what = properties.event;
    return { kind: "guest.panic", what: what === "panic" || what === "crash_loaded" ? what : "unknown_event" };
  }
  if (name === "vm.migration-memory-iteration" && /^\d{1,9}$/.test(String(id))) {
    return { kind: "vm.migration-memory-iteration", iteration: Number(id) };
  }
  if (name === "vm.device-removed" && typeof id === "string") {
    return { kind: "vm.device-removed", id, bdf: typeof bdf === "string" ? bdf : "" };
  }
  if (name === "virtio-device.activated" && typeof id === "string") return { kind: "device.activated", id };
  if (name === "virtio-device.reset" && typeof id === "string") return { kind: "device.reset", id };
  return { kind: "other", source, event };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}
