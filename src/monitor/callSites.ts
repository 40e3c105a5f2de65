// SPDX-License-Identifier: Apache-2.0
/**
 * How a frame was entered and what its caller does with the value, for a return address. Gets code; gives two words.
 *
 * Answers are kept by module and offset, so the second fault through the same code costs nothing. Limit: 16,384 answers.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { type AfterCall, address, type CallKind, type VirtualAddress } from "#fault.ts";
import type { CodeFacts } from "./codeFacts.ts";

export type CallSite = { readonly enteredBy: CallKind; readonly afterCall: AfterCall };

const answersMax = 16_384;
/** On each side of a return address: branches lead back in the function and on into the next one. */
const codeAroundBytes = 4096;
const unknown: CallSite = { enteredBy: "none", afterCall: "unknown" };

export class CallSites {
  #answers = new Map<string, CallSite>();

  constructor(
    private readonly instructions: InstructionSet,
    private readonly facts: CodeFacts,
  ) {}

  /** Forgets all answers, because more is known of the code now. */
  forget(): void {
    this.#answers = new Map();
  }

  at(returnAddress: VirtualAddress, map: CodeMap): CallSite {
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
      afterCall: this.facts.canFollow(map, place.module, offset) ? this.#afterCall(returnAddress, map) : "never",
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
    const found = map.find(returnAddress);
    if (found === null) return "never";
    const start = found.fde === null ? found.offset : Math.max(found.fde.start, found.offset - codeAroundBytes);
    const end = found.fde === null ? found.offset + codeAroundBytes : found.fde.end + codeAroundBytes;
    const code = found.image.codeAt(start, Math.min(end - start, 2 * codeAroundBytes));
    return this.instructions.afterCall(code, returnAddress, returnAddress - BigInt(found.offset - start));
  }
}
