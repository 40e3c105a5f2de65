// SPDX-License-Identifier: Apache-2.0
/**
 * The health of the box at one time. Gets a box, the kernel's clock and the places whose disks matter; gives plain data in
 * which everything that cannot be seen says why. About 15 small files are read.
 */
import type { Box } from "#board/box.ts";
import type { KernelClock } from "#board/native/clockState.ts";
import {
  absent,
  type DiskSpace,
  type FlashLife,
  type HostHealth,
  type NetworkLink,
  type Pressures,
  pressureResources,
  type Seen,
  seen,
} from "#health.ts";
import { readEmmcLife, readTemperatures, readThrottling } from "./boardHealth.ts";
import { parsePressure } from "./pressure.ts";
import { parseLinks, parseMemory, parseProcessorTimes } from "./procFiles.ts";

export type HostSources = {
  readonly box: Box;
  readonly readClock: () => KernelClock | null;
  /** Life of NVMe devices, where their command may be sent. */
  readonly readNvmeLife: () => readonly FlashLife[];
  /** Directories whose file systems are watched. */
  readonly places: readonly string[];
};

/** Links that are none to the outside. */
const inner = /^(lo|ifb\d+|dummy\d+|sit\d+|tunl\d+)$/;

export function readHostHealth(sources: HostSources, atMs: number): HostHealth {
  const { box, readClock } = sources;
  const times = parseProcessorTimes(box.text("/proc/stat") ?? "");
  const memory = parseMemory(box.text("/proc/meminfo") ?? "");
  const clock = readClock();
  return {
    atMs,
    processors: times?.processors ?? 0,
    processorSeconds: times?.processorSeconds ?? 0,
    busySeconds: times?.busySeconds ?? 0,
    pressure: readPressures(box),
    memory: memory === null ? absent("/proc/meminfo cannot be read") : seen(memory),
    temperatures: readTemperatures(box),
    throttling: readThrottling(box),
    disks: readDisks(sources),
    flash: readFlash(sources),
    clock: clock === null ? absent("the kernel does not tell the state of its clock") : seen(clock),
    links: readLinks(box),
  };
}

function readPressures(box: Box): Seen<Pressures> {
  const read = pressureResources.map((resource) => [
    resource,
    parsePressure(box.text(`/proc/pressure/${resource}`) ?? ""),
  ]);
  if (read.some(([, pressure]) => pressure !== null)) return seen(Object.fromEntries(read) as Pressures);
  return absent("the kernel tells no pressure", "boot with psi=1 (CONFIG_PSI)");
}

/** File systems by their size and space: places on the same one are told once. */
function readDisks({ box, places }: HostSources): DiskSpace[] {
  const disks: DiskSpace[] = [];
  for (const mount of places) {
    const space = box.space(mount);
    if (space === null) continue;
    const { totalBytes, freeBytes } = space;
    if (disks.some((disk) => disk.totalBytes === totalBytes && disk.freeBytes === freeBytes)) continue;
    disks.push({ mount, totalBytes, freeBytes });
  }
  return disks;
}

function readFlash({ box, readNvmeLife }: HostSources): Seen<readonly FlashLife[]> {
  const flash = [...readEmmcLife(box), ...readNvmeLife()];
  if (flash.length > 0) return seen(flash);
  const nvme = box.names("/sys/class/nvme");
  return nvme.length > 0
    ? absent(`the wear of ${nvme.join(", ")} cannot be asked for`, "CAP_SYS_ADMIN and access to /dev/nvme*")
    : absent("there is no eMMC and no NVMe here");
}

function readLinks(box: Box): NetworkLink[] {
  return parseLinks(box.text("/proc/net/dev") ?? "")
    .filter(({ name }) => !inner.test(name))
    .map((counts) => {
      const at = `/sys/class/net/${counts.name}`;
      const speed = Number(box.text(`${at}/speed`) ?? -1);
      // Some drivers leave operstate at "unknown"; carrier tells then.
      const up = box.text(`${at}/operstate`) === "up" || box.text(`${at}/carrier`) === "1";
      return { ...counts, up, megabitsPerSecond: speed > 0 ? speed : null };
    });
}
