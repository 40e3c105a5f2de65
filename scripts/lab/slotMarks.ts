// SPDX-License-Identifier: Apache-2.0
/**
 * What a boot loader will find on a disk: order, and each slot's mark and tries. Gets an image of a disk that is not in use;
 * gives words. Needs mtools.
 */
import { run } from "#image/commands.ts";
import { mib, partitionOf } from "#image/layout.ts";

/** Such as `A B, A 1/0, B 1/2`; a question mark for what is not there. */
export async function environmentOn(disk: string): Promise<string> {
  const text = await run(["mtype", "-i", `${disk}@@${partitionOf("esp").startMiB * mib}`, "::grub/grubenv"]);
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, "m").exec(text)?.[1] ?? "?";
  return `${value("ORDER")}, A ${value("A_OK")}/${value("A_TRY")}, B ${value("B_OK")}/${value("B_TRY")}`;
}
