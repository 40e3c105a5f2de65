// SPDX-License-Identifier: Apache-2.0
/**
 * What both scripted ends of a migration share: a guest of a few MiB in two regions, with content that a seed gives.
 */
import { seededRandom } from "#clock.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";

export const regions = [
  { slot: 0, gpa: 0, size: 4 << 20, zone_id: "mem0", virtio_mem: false, file_offset: 0 },
  { slot: 1, gpa: 2 ** 32, size: 3 << 20, zone_id: "mem0", virtio_mem: false, file_offset: 8 << 20 },
] as const;
export const pageCount = regions.reduce((sum, { size }) => sum + size / pageBytes, 0);

/** Numbers above 2^53, as the real message has them. */
export const configText = `{"vm_config":{"memory":{"size":7340032,"shared":true,"thp":true,"prefault":false},"disks":[{"id":"disk0","path":"/guest.img"}],"platform":{"serial_number":18446744073709551615}},"memory_manager_data":{"guest_ram_mappings":${JSON.stringify(regions)}}}`;

/** Device state with one queue, whose used ring is here. */
export const stateText = (usedRing = 4_096): string => {
  const queues = [{ max_size: 16, size: 16, ready: true, desc_table: 0, avail_ring: 0, used_ring: usedRing }];
  const state = JSON.stringify({ device_activated: true, queues, high: "18446744073709551615" });
  const device = { snapshots: {}, snapshot_data: { state } };
  return JSON.stringify({ snapshots: { "device-manager": { snapshots: { "_virtio-pci-_rng0": device } } } });
};

/** Content of a page: a third zeros, a third repeated, the rest random; `generation` changes every tenth page. */
export function contentOf(page: number, seed: number, generation = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(pageBytes));
  if (page % 3 === 0) return bytes;
  const random = seededRandom(
    page % 3 === 1 ? seed + (page % 5) : seed + page + (page % 10 === 5 ? generation : 0) * 1e6,
  );
  for (let at = 0; at < pageBytes; at += page % 2 === 0 ? 1 : 16) bytes[at] = random() * 256;
  return bytes;
}
