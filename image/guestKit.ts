// SPDX-License-Identifier: Apache-2.0
/** The units of the guest kit (vm/guest-kit), by name, in order. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

export const guestKit = join(import.meta.dir, "../vm/guest-kit");
export const guestKitUnits: readonly string[] = readdirSync(guestKit)
  .filter((name) => name.startsWith("holdfast-"))
  .sort();
/** Those that are enabled; they start the others. */
export const guestKitSockets = guestKitUnits.filter((name) => name.endsWith(".socket"));
