// SPDX-License-Identifier: Apache-2.0
/**
 * How a frame was entered and what its caller does with the value, for a return address. Gets code; gives two words.
 *
 * Answers are kept by module and offset, so the second fault through the same code costs nothing. Limit: 16,384 answers.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { type AfterCall, address, type CallKind, type VirtualAddress } from "#fault.ts";

export type CallSite = { readonly enteredBy: CallKind; readonly afterCall: AfterCall };

/** True where no code can follow a call that returns to `offset` of `module`; from the preparation of the program. */
export type NeverFollows = (module: number, offset: number) => boolean;

const answersMax = 16_384;
const codeAfterBytes = 160;
const unknown: CallSite = { enteredBy: "none", afterCall: "unknown" };

export class CallSites {
  #answers = new Map<string, CallSite>();

  constructor(private readonly instructions: InstructionSet) {}

  at(returnAddress: VirtualAddress, map: CodeMap, neverFollows: NeverFollows): CallSite {
    const place = map.locate(Number(returnAddress) - 1);
    if (place === null) return unknown;
    const offset = place.offset + 1;
    const { path, buildId } = map.modules[place.module]!;
    const key = `${buildId === "" ? path : buildId}+${offset}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    if (this.#answers.size >= answersMax) this.#answers = new Map();
    const site: CallSite = {
      enteredBy: this.#enteredBy(returnAddress, map),
      afterCall: neverFollows(place.module, offset) ? "never" : this.#afterCall(returnAddress, map),
    };
    this.#answers.set(key, site);
    return site;
  }

  #enteredBy(returnAddress: VirtualAddress, map: CodeMap): CallKind {
    const found = map.find(address(returnAddress - 1n));
    if (found === null) return "none";
    const from = found.fde === null ? found.offset + 1 - 16 : found.fde.start;
    const lengthBytes = found.offset + 1 - from;
    const functionBytes = found.image.codeAt(from, lengthBytes);
    const certain = found.fde !== null && functionBytes.length === lengthBytes;
    const call = this.instructions.callBefore(
      functionBytes.subarray(-16),
      returnAddress,
      certain ? functionBytes : undefined,
    );
    if (call.kind === "slot") return map.slotKind(address(call.slot));
    if (call.kind === "direct") return map.symbolAt(address(call.target))?.endsWith("@plt") ? "library" : "direct";
    return call.kind;
  }

  #afterCall(returnAddress: VirtualAddress, map: CodeMap): AfterCall {
    const found = map.locate(Number(returnAddress));
    if (found === null) return "never";
    return this.instructions.afterCall(found.image.codeAt(found.offset, codeAfterBytes), returnAddress);
  }
}
