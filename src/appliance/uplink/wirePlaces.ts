// SPDX-License-Identifier: Apache-2.0
/**
 * The names that sites and edits have here, and those that they have in a rescue record of the fleet: there and back. Pure.
 *
 * A place without a build-id is known on this box alone, and has no name in the fleet. So has an edit that another box
 * cannot mean: a mend, a delivery.
 */
import type { Rung } from "#fault.ts";
import type { Place, WireRung } from "#telemetry/rescueRecord.ts";

const placePattern = /^((?:[0-9a-f]{2}){8,64})\+0x([0-9a-f]{1,16})$/;
const returnPattern = /^(abandon|inward) (\S+)=(-?\d{1,20})$/;
const wireRungs = { abandon: 1, inward: 3, neutralise: 4, park: 5 } as const satisfies Partial<Record<Rung, WireRung>>;

/** The rung and rescue point of an edit. */
export type WireEdit = {
  readonly rung: WireRung;
  readonly candidate: Place | null;
  readonly returnValue: bigint | null;
};

export function readPlace(text: string): Place | null {
  const found = placePattern.exec(text);
  return found === null ? null : { module: found[1]!, offset: BigInt(`0x${found[2]!}`) };
}

export const placeText = ({ module, offset }: Place): string => `${module}+0x${offset.toString(16)}`;

/** null where the fleet has no name for it. */
export function readEdit(key: string): WireEdit | null {
  if (key === "park") return { rung: wireRungs.park, candidate: null, returnValue: null };
  const returned = returnPattern.exec(key);
  const place = readPlace(returned?.[2] ?? key.replace(/^neutralise /, ""));
  if (place === null) return null;
  if (returned === null) return { rung: wireRungs.neutralise, candidate: place, returnValue: null };
  const rung = wireRungs[returned[1] as "abandon" | "inward"];
  return { rung, candidate: place, returnValue: BigInt(returned[3]!) };
}

/** The key of the decision that a record means, and its rung; null where it means none of ours. */
export function editOf({
  rung,
  candidate,
  returnValue,
}: WireEdit): { readonly key: string; readonly rung: Rung } | null {
  if (rung === wireRungs.park) return { key: "park", rung: "park" };
  if (candidate === null) return null;
  if (rung === wireRungs.neutralise) return { key: `neutralise ${placeText(candidate)}`, rung: "neutralise" };
  if (returnValue === null) return null;
  // Rung 2 is an abandoned request whose session was cut as well; whom to cut is never taken from another box.
  const name = rung === wireRungs.inward ? "inward" : "abandon";
  return { key: `${name} ${placeText(candidate)}=${returnValue}`, rung: name };
}
