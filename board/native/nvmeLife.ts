// SPDX-License-Identifier: Apache-2.0
/**
 * The wear of NVMe devices, asked of the device itself. Gets a device name; gives the share of its life that is used up, or
 * null where it may not be asked or does not answer. Blocks for a millisecond or so: call it seldom, in a Worker.
 *
 * Source: NVM Express base specification 2.0, Get Log Page (02h), SMART / Health Information (log 02h): byte 3 available
 * spare, byte 4 its threshold, byte 5 percentage used. `struct nvme_passthru_cmd` of `include/uapi/linux/nvme_ioctl.h`, 72
 * bytes: offset 0 u8 opcode, 4 u32 nsid, 24 u64 addr, 36 u32 data_len, 40 u32 cdw10. Needs CAP_SYS_ADMIN.
 */
import { FFIType, ptr } from "bun:ffi";
import { closeSync, openSync } from "node:fs";
import { fixedBytes, openLibc } from "./libc.ts";

const libc = openLibc({ ioctl: { args: [FFIType.i32, FFIType.u64_fast, FFIType.ptr], returns: FFIType.i32 } });
/** _IOWR('N', 0x41, struct nvme_passthru_cmd) */
const adminCommand = 0xc048_4e41;
const [commandBytes, healthBytes, getLogPage, healthLog, allNamespaces] = [72, 512, 0x02, 0x02, 0xffff_ffff];

export type NvmeLife = { readonly usedRatio: number; readonly spareLow: boolean };

export function readNvmeLife(device: string): NvmeLife | null {
  let file: number;
  try {
    file = openSync(`/dev/${device}`, "r");
  } catch {
    return null; // Absent, or not ours to open: the same answer.
  }
  try {
    const health = fixedBytes(healthBytes);
    const command = fixedBytes(commandBytes);
    const view = new DataView(command.buffer);
    view.setUint8(0, getLogPage);
    view.setUint32(4, allNamespaces, true);
    view.setBigUint64(24, BigInt(ptr(health)), true);
    view.setUint32(36, healthBytes, true);
    view.setUint32(40, healthLog | ((healthBytes / 4 - 1) << 16), true);
    return libc.ioctl(file, adminCommand, command) === 0 ? decodeNvmeHealth(health) : null;
  } finally {
    closeSync(file);
  }
}

/** Decodes a health log. Used up is told in percent and may pass 100. */
export const decodeNvmeHealth = (log: Uint8Array): NvmeLife | null =>
  log.length < 6 ? null : { usedRatio: log[5]! / 100, spareLow: log[3]! < log[4]! };
