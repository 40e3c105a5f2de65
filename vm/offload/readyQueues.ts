// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a snapshot can be restored at all: v53.0 reads the used ring of every virtio queue, also of those that no driver
 * has set up, whose address is 0; where no memory lies at address 2 it panics (issue 8693 of Cloud Hypervisor). On x86 that
 * is memory, on arm64 it is not. Gets the State message and the memory; gives the first queue that is not ready, or null.
 *
 * Pure. Limit: `devicesMax`.
 */
import type { GuestRam } from "./guestRam.ts";

export type UnreadyQueue = { readonly device: string; readonly queue: number };
const devicesMax = 1_024;
/** The index that is read lies behind two bytes of flags. */
const indexOffset = 2;

type Fields = { readonly [key: string]: unknown };

export function findUnreadyQueue(state: string, ram: GuestRam): UnreadyQueue | null {
  const devices = at(at(parse(state), "snapshots"), "device-manager").snapshots;
  for (const [name, device] of Object.entries(fieldsOf(devices)).slice(0, devicesMax)) {
    if (!name.startsWith("_virtio-pci-")) continue;
    const queue = queuesOf(fieldsOf(device)).findIndex((each) => !isInRam(each, ram));
    if (queue >= 0) return { device: name.replace("_virtio-pci-", ""), queue };
  }
  return null;
}

/** The state of a leaf is a string with JSON of its own. */
function queuesOf(device: Fields): Fields[] {
  const text = at(device, "snapshot_data").state;
  const state = fieldsOf(typeof text === "string" ? parse(text) : null);
  return Array.isArray(state.queues) ? state.queues.map(fieldsOf) : [];
}

function isInRam(queue: Fields, ram: GuestRam): boolean {
  const index = Number(queue.used_ring ?? 0) + indexOffset;
  return ram.regions.some(({ gpa, bytes }) => index >= gpa && index < gpa + bytes);
}

const at = (fields: unknown, key: string): Fields => fieldsOf(fieldsOf(fields)[key]);
const fieldsOf = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not what this version writes: then no device is found, and the restore itself will say what is wrong.
    return null;
  }
}
