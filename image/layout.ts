// SPDX-License-Identifier: Apache-2.0
/**
 * The disk of the appliance: which partitions, where, how large, of which kind. Pure.
 *
 * The first one starts at 16 MiB, so that the loaders of boards that read theirs from the disk fit before it. Names and ids
 * are the same on every disk: the box finds its parts by name on the disk that it came from.
 */
export const mib = 1_048_576;
const firstMiB = 16;
/** The second table of the disk, at its very end. */
const tailMiB = 1;

const linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const esp = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/** Our own, by which systemd-repart finds what may grow; also in system/repart-data.conf. */
const growing = "7A4B3F0E-8D52-4C8B-9F61-0D0C5B6F4A21";

export type PartitionName = "esp" | "boot_A" | "root_A" | "boot_B" | "root_B" | "state" | "data";
export type Partition = {
  readonly name: PartitionName;
  readonly type: string;
  readonly id: string;
  readonly startMiB: number;
  readonly sizeMiB: number;
};

const sizes: readonly (readonly [PartitionName, number, string])[] = [
  ["esp", 128, esp],
  ["boot_A", 256, linux],
  ["root_A", 1_024, linux],
  ["boot_B", 256, linux],
  ["root_B", 1_024, linux],
  ["state", 64, linux],
  // XFS wants 300 MiB; it is made, and grown, on the box.
  ["data", 512, growing],
];

export const partitions: readonly Partition[] = place();

function place(): Partition[] {
  let startMiB = firstMiB;
  return sizes.map(([name, sizeMiB, type], index) => {
    const partition = { name, type, id: partitionId(index + 1), startMiB, sizeMiB };
    startMiB += sizeMiB;
    return partition;
  });
}

export const diskId = "6d1f1c2e-64b7-4f0e-8a55-4b0f0e5a1000";
export function partitionId(number: number): string {
  return `6d1f1c2e-64b7-4f0e-8a55-4b0f0e5a10${String(number).padStart(2, "0")}`;
}

export const partitionOf = (name: PartitionName): Partition => partitions.find((item) => item.name === name)!;

export const diskMiB = (): number => {
  const last = partitions.at(-1)!;
  return last.startMiB + last.sizeMiB + tailMiB;
};

/** What sfdisk reads. */
export function sfdiskScript(): string {
  const lines = partitions.map(
    ({ name, type, id, startMiB, sizeMiB }) =>
      `start=${startMiB}MiB, size=${sizeMiB}MiB, type=${type}, uuid=${id}, name=${name}`,
  );
  return ["label: gpt", `label-id: ${diskId}`, "unit: sectors", "", ...lines, ""].join("\n");
}
