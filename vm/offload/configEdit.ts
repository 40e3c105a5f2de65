// SPDX-License-Identifier: Apache-2.0
/**
 * Changes a Config message for a restore: memory in a file that we bring, and other disks. Gets JSON text; gives JSON text
 * in which everything else is as it was, digit by digit.
 *
 * The message has integers above 2^53, which JSON.parse would round: numbers keep their source text. An unchanged message
 * must come out as it went in, else nothing is edited. Pure. Source: `VmMigrationConfig`, v53.0; measured.
 */
import { HypervisorError } from "#errors.ts";

export type ConfigEdit = {
  /** Path of each disk by its id, where it is another one. */
  readonly disks: Readonly<Record<string, string>>;
};

type Raw = { readonly [key: string]: unknown };
/** Of ES2025, in Bun, not yet in the types. */
const exactJson = JSON as unknown as {
  parse(text: string, revive: (key: string, value: unknown, place: { source?: string }) => unknown): unknown;
  rawJSON(text: string): unknown;
};

/** @throws HypervisorError hypervisor.protocol where the message is not as this version writes it */
export function editConfig(text: string, edit: ConfigEdit): string {
  const parsed = parse(text);
  if (JSON.stringify(parsed) !== text) throw wrong("it does not come out of an unchanged edit as it went in");
  const config = (parsed as Raw).vm_config as Raw | undefined;
  const memory = config?.memory as Raw | undefined;
  if (config === undefined || memory === undefined) throw wrong("it names no memory");
  const disks = config.disks as readonly Raw[] | null | undefined;
  const edited = {
    ...(parsed as Raw),
    vm_config: {
      ...config,
      memory: { ...memory, shared: true, thp: false, prefault: false },
      ...(disks === null || disks === undefined ? {} : { disks: disks.map((disk) => editDisk(disk, edit)) }),
    },
  };
  return JSON.stringify(edited);
}

const editDisk = (disk: Raw, { disks }: ConfigEdit): Raw => {
  const path = disks[String(disk.id)];
  return path === undefined ? disk : { ...disk, path };
};

function parse(text: string): unknown {
  try {
    return exactJson.parse(text, (_, value, { source }) =>
      typeof value === "number" && source !== undefined && String(value) !== source ? exactJson.rawJSON(source) : value,
    );
  } catch (cause) {
    throw new HypervisorError("hypervisor.protocol", "the configuration cannot be edited: it is not JSON", {}, cause);
  }
}

const wrong = (why: string): HypervisorError =>
  new HypervisorError("hypervisor.protocol", `the configuration cannot be edited: ${why}`);
