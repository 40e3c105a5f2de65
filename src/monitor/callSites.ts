// SPDX-License-Identifier: Apache-2.0
/**
 * How a frame was entered and what its caller does with the value, for a return address. Gets code; gives a few words.
 *
 * Answers are kept by module and offset, so the second fault through the same code costs nothing. Limit: 16,384 answers.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import { failsPlainly, failureValueOf } from "#binary/failureValue.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import { type AfterCall, address, type CallKind, type VirtualAddress } from "#fault.ts";
import type { CodeFacts } from "./codeFacts.ts";

export type CallSite = {
  readonly enteredBy: CallKind;
  readonly afterCall: AfterCall;
  readonly failureValue: bigint | null;
  readonly failsPlainly: boolean;
  /** The value is passed on to the next outer frame, which decides. */
  readonly passedOn: boolean;
};

type Loop = { readonly isLoop: boolean; readonly value: bigint | null };

const answersMax = 16_384;
/** On each side of a return address: branches lead back in the function and on into the next one. */
const codeAroundBytes = 4096;
const untested = { failureValue: null, failsPlainly: false, passedOn: false } as const;
const unknownUse = { afterCall: "unknown", ...untested } as const;
const noUse = { afterCall: "never", ...untested } as const;
export const unknownCall: CallSite = { enteredBy: "none", ...unknownUse };

export class CallSites {
  #answers = new Map<string, CallSite>();
  #loops = new Map<VirtualAddress, Loop>();

  constructor(
    private readonly instructions: InstructionSet,
    private readonly facts: CodeFacts,
  ) {}

  /** Forgets all answers, because more is known of the code now. */
  forget(): void {
    this.#answers = new Map();
    this.#loops = new Map();
  }

  at(returnAddress: VirtualAddress, map: CodeMap): CallSite {
    const place = map.locate(Number(returnAddress) - 1);
    if (place === null) return unknownCall;
    const offset = place.offset + 1;
    const { path, buildId } = map.modules[place.module]!;
    const key = `${buildId === "" ? path : buildId}+${offset}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    if (this.#answers.size >= answersMax) this.#answers = new Map();
    const site: CallSite = {
      enteredBy: this.#enteredBy(returnAddress, map),
      ...(this.facts.canFollow(map, place.module, offset) ? this.#useAt(returnAddress, map) : noUse),
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

  /** Whether the caller makes the call again and again. */
  isInLoop(returnAddress: VirtualAddress, map: CodeMap): boolean {
    return this.#loopAt(returnAddress, map).isLoop;
  }

  /** Of a failure's usual values, the one with which the caller goes on with its loop; null where that is no matter. */
  valueInLoop(returnAddress: VirtualAddress, map: CodeMap): bigint | null {
    return this.#loopAt(returnAddress, map).value;
  }

  #loopAt(returnAddress: VirtualAddress, map: CodeMap): Loop {
    const known = this.#loops.get(returnAddress);
    if (known !== undefined) return known;
    if (this.#loops.size >= answersMax) this.#loops = new Map();
    const loop = loopAround(this.instructions, returnAddress, map);
    this.#loops.set(returnAddress, loop);
    return loop;
  }

  #useAt(returnAddress: VirtualAddress, map: CodeMap): Omit<CallSite, "enteredBy"> {
    const around = codeAround(returnAddress, map);
    if (around === null) return noUse;
    const use = this.instructions.valueUse(around.code, returnAddress, around.from);
    if (use.kind === "returned") return { ...unknownUse, passedOn: true };
    const test = use.kind === "tested" ? use.test : null;
    if (use.kind !== "tested" || test === null) return { ...untested, afterCall: use.kind };
    const failureValue = failureValueOf(test, use.isCode);
    return { afterCall: use.kind, failureValue, failsPlainly: failsPlainly(test), passedOn: false };
  }
}

/** The code of the function around a return address, as far as branches may lead, and where it begins. */
function codeAround(returnAddress: VirtualAddress, map: CodeMap): { code: Uint8Array; from: bigint } | null {
  const found = map.find(returnAddress);
  if (found === null) return null;
  const start = found.fde === null ? found.offset : Math.max(found.fde.start, found.offset - codeAroundBytes);
  const end = found.fde === null ? found.offset + codeAroundBytes : found.fde.end + codeAroundBytes;
  const code = found.image.codeAt(start, Math.min(end - start, 2 * codeAroundBytes));
  return { code, from: returnAddress - BigInt(found.offset - start) };
}

function loopAround(instructions: InstructionSet, returnAddress: VirtualAddress, map: CodeMap): Loop {
  const around = codeAround(returnAddress, map);
  if (around === null) return { isLoop: false, value: null };
  const { code, from } = around;
  const [ends, goesOn] = [false, true].map((wanted) =>
    [-1n, 0n].find((value) => instructions.comesBack(code, returnAddress, from, value) === wanted),
  );
  const isLoop = instructions.comesBack(code, returnAddress, from) === true;
  return { isLoop, value: ends === undefined || goesOn === undefined ? null : goesOn };
}
