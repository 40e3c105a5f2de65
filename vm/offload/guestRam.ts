// SPDX-License-Identifier: Apache-2.0
/**
 * Where a guest's memory lies, as Cloud Hypervisor's migration tells it: regions in guest-physical order, pages numbered
 * through all of them. Gets the Config message; gives regions, and page numbers for addresses. Pure.
 *
 * Source: `memory_manager_data.guest_ram_mappings` of the Config message, v53.0.
 */
import { HypervisorError } from "#errors.ts";

export const pageBytes = 4096;
export const regionsMax = 64;
/** 16 TiB: what 32-bit page numbers reach. */
const ramBytesMax = 2 ** 44;

export type RamRegion = {
  readonly slot: number;
  readonly gpa: number;
  readonly bytes: number;
  /** Where it begins in its memory file. */
  readonly fileOffset: number;
  /** The number of its first page. */
  readonly firstPage: number;
};

export class GuestRam {
  readonly pages: number;

  /** Regions in the order of their addresses. @throws HypervisorError hypervisor.protocol where they make no sense */
  constructor(readonly regions: readonly RamRegion[]) {
    let [end, pages] = [0, 0];
    for (const { gpa, bytes, fileOffset, firstPage } of regions) {
      const whole = [gpa, bytes, fileOffset].every((value) => Number.isSafeInteger(value) && value % pageBytes === 0);
      if (!whole || bytes <= 0 || gpa < end || firstPage !== pages)
        throw wrong("regions overlap or are not whole pages");
      end = gpa + bytes;
      pages += bytes / pageBytes;
    }
    if (regions.length === 0 || regions.length > regionsMax || pages * pageBytes > ramBytesMax) {
      throw wrong(`${regions.length} regions with ${pages} pages`);
    }
    this.pages = pages;
  }

  get bytes(): number {
    return this.pages * pageBytes;
  }

  /** The region that holds all of this range. @throws HypervisorError hypervisor.protocol where none does */
  regionOf(gpa: number, bytes: number): RamRegion {
    const region = this.regions.find((each) => gpa >= each.gpa && gpa + bytes <= each.gpa + each.bytes);
    if (region === undefined) throw wrong(`${bytes} bytes at 0x${gpa.toString(16)} are not in the guest's memory`);
    return region;
  }

  /** The number of the page at `gpa`, which must begin there. @throws HypervisorError hypervisor.protocol */
  pageAt(gpa: number): number {
    if (gpa % pageBytes !== 0) throw wrong(`0x${gpa.toString(16)} is not the beginning of a page`);
    const region = this.regionOf(gpa, pageBytes);
    return region.firstPage + (gpa - region.gpa) / pageBytes;
  }

  /** The region of a page. */
  regionOfPage(page: number): RamRegion {
    return this.regions.findLast(({ firstPage }) => firstPage <= page)!;
  }
}

type Fields = { readonly [key: string]: unknown };

/** @throws HypervisorError hypervisor.protocol */
export function ramOf(config: string): GuestRam {
  const mappings = fieldsOf(fieldsOf(parse(config)).memory_manager_data).guest_ram_mappings;
  if (!Array.isArray(mappings)) throw wrong("the configuration names no memory");
  const found = mappings.map(fieldsOf).map(({ slot, gpa, size, file_offset, virtio_mem }) => {
    if (virtio_mem === true) throw wrong("virtio-mem is not supported");
    return { slot: Number(slot), gpa: Number(gpa), bytes: Number(size), fileOffset: Number(file_offset) };
  });
  return new GuestRam(numbered(found));
}

/** Regions in the order of their addresses, their pages numbered. */
export function numbered(regions: readonly Omit<RamRegion, "firstPage">[]): RamRegion[] {
  let firstPage = 0;
  return [...regions]
    .sort((a, b) => a.gpa - b.gpa)
    .map((region) => {
      const placed = { ...region, firstPage };
      firstPage += region.bytes / pageBytes;
      return placed;
    });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HypervisorError("hypervisor.protocol", "the configuration is not JSON", {}, cause);
  }
}

const fieldsOf = (value: unknown): Fields => (typeof value === "object" && value !== null ? (value as Fields) : {});
const wrong = (why: string): HypervisorError =>
  new HypervisorError("hypervisor.protocol", `the guest's memory as told makes no sense: ${why}`);
