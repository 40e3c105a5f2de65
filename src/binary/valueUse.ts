// SPDX-License-Identifier: Apache-2.0
/**
 * Follows a returned value through the code after a call: gets single steps from a decoder, gives what becomes of it.
 *
 * Copies between registers and stack slots are followed, direct jumps too; a conditional branch on something else is
 * followed both ways. Bounded by `valueUseInstructionsMax` a path and `valueUsePathsMax` paths. Stack slots are named
 * by the text of their base and displacement.
 */
import type { Condition, ValueTest, ValueUse } from "./instructionSet.ts";
import { valueUseInstructionsMax, valueUsePathsMax } from "./instructionSet.ts";

/** A register by DWARF number, or a stack slot. */
export type Place = number | string;
export type ValueBits = 8 | 16 | 32 | 64;

/** A comparison of a place with a constant; `against` null: with something not known here. */
export type PlaceTest = {
  readonly place: Place;
  readonly bits: ValueBits;
  readonly mask: bigint | null;
  readonly against: bigint | null;
  /** The condition itself where the instruction branches (AArch64 CBZ, TBZ); else it is in a later `consumes`. */
  readonly condition: Condition | null;
  /** True where the carry flag does not mean what it means after a comparison (x86-64 `add`). */
  readonly carryDiffers?: boolean;
};

/** `to` becomes `from` + `offset`; null: stored to memory that is not followed. */
export type CopyStep = {
  readonly from: Place;
  readonly to: Place | null;
  readonly bits: ValueBits;
  readonly offset: bigint;
};

/** One instruction as far as a followed value is concerned. */
export type ValueStep = {
  readonly lengthBytes: number;
  /** Places read other than by `copies` and `tests`. */
  readonly reads: readonly Place[];
  /** Places overwritten, the targets of `copies` among them. */
  readonly writes: readonly Place[];
  readonly copies: readonly CopyStep[];
  readonly tests: readonly PlaceTest[];
  /** Flags that compare the result written by this instruction with zero, as `sub eax, 1` sets them. */
  readonly resultTest: PlaceTest | null;
  /** True where flags are overwritten. */
  readonly setsFlags: boolean;
  /** The condition this instruction takes from the flags (branch, conditional move or set). */
  readonly consumes: Condition | null;
  readonly flow: "next" | "jump" | "branch" | "call" | "return" | "stop";
  /** Target of a jump or branch. */
  readonly target: bigint | null;
};

/** What a calling convention says. */
export type Convention = {
  readonly result: number;
  readonly resultBits: ValueBits;
  readonly argumentRegisters: ReadonlySet<number>;
  readonly savedRegisters: ReadonlySet<number>;
  /** Stack pointer and frame pointer: writing one moves the slots named by it. */
  readonly slotBases: ReadonlyMap<number, string>;
};

/** Decodes one step at an address; null where there are no bytes or no valid instruction. */
export type StepAt = (at: bigint) => ValueStep | null;

type Copy = { readonly bits: ValueBits; readonly offset: bigint };
type Path = { at: bigint; left: number; readonly copies: Map<Place, Copy>; stored: boolean };

export function followValue(stepAt: StepAt, start: bigint, convention: Convention): ValueUse {
  const copies = new Map<Place, Copy>([[convention.result, { bits: convention.resultBits, offset: 0n }]]);
  const paths: Path[] = [{ at: start, left: valueUseInstructionsMax, copies, stored: false }];
  let verdict: ValueUse | null = null;
  for (let taken = 0; taken < paths.length; taken += 1) {
    const use = followPath(stepAt, paths[taken] as Path, paths, convention);
    if (use.kind === "used") return use;
    verdict = verdict === null ? use : weightier(verdict, use);
  }
  return verdict ?? { kind: "unknown" };
}

/** A path that cannot be followed says nothing against a test on another one. */
const weight: Record<ValueUse["kind"], number> = { ignored: 0, returned: 1, unknown: 2, tested: 3, used: 4 };
const weightier = (one: ValueUse, other: ValueUse): ValueUse => (weight[other.kind] > weight[one.kind] ? other : one);

function followPath(stepAt: StepAt, path: Path, paths: Path[], convention: Convention): ValueUse {
  for (; path.left > 0; path.left -= 1) {
    const step = stepAt(path.at);
    if (step === null) return { kind: "unknown" };
    const use = touch(stepAt, path, step);
    if (use?.kind === "tested") {
      const isCode = isTestedAgain(stepAt, path, convention) || isDeadWhereSet(stepAt, path, use.test, convention);
      return { ...use, isCode };
    }
    if (use !== null) return use;
    writeOver(path, step, convention);
    const end = leave(path, step, paths, convention);
    if (end !== null) return end;
    if (path.copies.size === 0) return { kind: path.stored ? "used" : "ignored" };
  }
  return { kind: "unknown" };
}

/** Whether, from a first test on, the value is compared with a constant other than zero before it is used. */
function isTestedAgain(stepAt: StepAt, from: Path, convention: Convention): boolean {
  const paths: Path[] = [{ ...from, copies: new Map(from.copies) }];
  for (let taken = 0; taken < paths.length; taken += 1) {
    const path = paths[taken] as Path;
    for (let end: ValueUse | null = null; path.left > 0 && end === null; path.left -= 1) {
      const step = stepAt(path.at);
      if (step === null) break;
      if (step.tests.some((test) => path.copies.has(test.place) && test.against !== null && test.against !== 0n))
        return true;
      if (step.reads.some((place) => path.copies.has(place))) break;
      writeOver(path, step, convention);
      end = path.copies.size === 0 ? { kind: "ignored" } : leave(path, step, paths, convention);
    }
  }
  return false;
}

/**
 * Whether a value that is tested for zero is not looked at where it is not zero: a pointer would be, so it is a status
 * of a pointer's size.
 */
function isDeadWhereSet(stepAt: StepAt, from: Path, test: ValueTest | null, convention: Convention): boolean {
  if (
    test === null ||
    test.bits !== 64 ||
    test.against !== 0n ||
    (test.condition !== "equal" && test.condition !== "notEqual")
  )
    return false;
  const start = whereSet(stepAt, from.at, test.condition);
  if (start === null) return false;
  const paths: Path[] = [{ ...from, at: start, copies: new Map(from.copies) }];
  for (let taken = 0; taken < paths.length; taken += 1) {
    const path = paths[taken] as Path;
    let isDead = false;
    for (; path.left > 0 && !isDead; path.left -= 1) {
      const step = stepAt(path.at);
      if (step === null || isLookedAt(path, step)) return false;
      writeOver(path, step, convention);
      const end = path.copies.size === 0 ? null : leave(path, step, paths, convention);
      if (path.stored || (end !== null && end.kind !== "ignored")) return false;
      isDead = path.copies.size === 0 || end !== null;
    }
    if (!isDead) return false;
  }
  return true;
}

const isLookedAt = ({ copies }: Path, { reads, tests }: ValueStep): boolean =>
  reads.some((place) => copies.has(place)) || tests.some(({ place }) => copies.has(place));

/** Where the code goes on, from a test for zero on, if the value is not zero. */
function whereSet(stepAt: StepAt, start: bigint, condition: "equal" | "notEqual"): bigint | null {
  let at = start;
  for (let count = 0; count <= flagDistanceMax; count += 1) {
    const step = stepAt(at);
    if (step === null) return null;
    const after = at + BigInt(step.lengthBytes);
    if (step.flow === "branch") return condition === "notEqual" ? step.target : after;
    if (step.flow !== "next") return null;
    at = after;
  }
  return null;
}

/** Whether the step tests or uses the value. A weak test, flags as a by-product, counts only where they are consumed. */
function touch(stepAt: StepAt, path: Path, step: ValueStep): ValueUse | null {
  for (const test of step.tests) {
    const tested = path.copies.get(test.place);
    if (tested === undefined) continue;
    const condition = test.condition ?? consumedAfter(stepAt, path.at + BigInt(step.lengthBytes));
    return { kind: "tested", test: valueTest(test, tested, condition) };
  }
  const result = step.resultTest === null ? undefined : path.copies.get(step.resultTest.place);
  if (step.resultTest !== null && result !== undefined) {
    const condition = consumedAfter(stepAt, path.at + BigInt(step.lengthBytes));
    if (condition !== null) return { kind: "tested", test: valueTest(step.resultTest, result, condition) };
  }
  return step.reads.some((place) => path.copies.has(place)) ? { kind: "used" } : null;
}

function valueTest(test: PlaceTest, copy: Copy, condition: Condition | null): ValueTest | null {
  if (test.against === null || condition === null) return null;
  const bits = Math.min(test.bits, copy.bits) as ValueBits;
  const known = test.carryDiffers === true && unsigned.has(condition) ? "other" : condition;
  return { bits, offset: copy.offset, mask: test.mask, against: BigInt.asUintN(bits, test.against), condition: known };
}

const unsigned: ReadonlySet<Condition> = new Set(["below", "belowEqual", "above", "aboveEqual"]);
const flagDistanceMax = 6;

/** The condition that first consumes the flags from here on, or null where they are overwritten or lost first. */
function consumedAfter(stepAt: StepAt, start: bigint): Condition | null {
  let at = start;
  for (let count = 0; count < flagDistanceMax; count += 1) {
    const step = stepAt(at);
    if (step === null) return null;
    if (step.consumes !== null) return step.consumes;
    if (step.setsFlags || step.flow === "call" || step.flow === "return" || step.flow === "stop") return null;
    at = step.flow === "jump" ? (step.target ?? at) : at + BigInt(step.lengthBytes);
  }
  return null;
}

function writeOver(path: Path, step: ValueStep, convention: Convention): void {
  const sources = step.copies.map(({ from }) => path.copies.get(from));
  for (const place of step.writes) {
    path.copies.delete(place);
    const moved = typeof place === "number" ? convention.slotBases.get(place) : undefined;
    if (moved !== undefined) forgetSlots(path, moved);
  }
  for (const [index, copy] of step.copies.entries()) {
    const source = sources[index];
    if (source === undefined) continue;
    if (typeof copy.to !== "number") path.stored = true;
    const bits = Math.min(copy.bits, source.bits) as ValueBits;
    if (copy.to !== null) path.copies.set(copy.to, { bits, offset: source.offset + copy.offset });
  }
}

function forgetSlots(path: Path, prefix: string): void {
  for (const place of path.copies.keys()) {
    if (typeof place === "string" && place.startsWith(prefix)) path.copies.delete(place);
  }
}

/** Moves the path on; a verdict where it ends. */
function leave(path: Path, step: ValueStep, paths: Path[], convention: Convention): ValueUse | null {
  const after = path.at + BigInt(step.lengthBytes);
  path.at = after;
  switch (step.flow) {
    case "next":
      return null;
    case "jump":
      if (step.target === null) return { kind: "unknown" };
      path.at = step.target;
      return null;
    case "branch":
      if (step.target === null || paths.length >= valueUsePathsMax) return { kind: "unknown" };
      paths.push({ at: step.target, left: path.left - 1, copies: new Map(path.copies), stored: path.stored });
      return null;
    case "call":
      return passCall(path, convention);
    case "return":
      if (path.copies.has(convention.result)) return { kind: "returned" };
      return { kind: path.stored ? "used" : "ignored" };
    case "stop":
      return { kind: "unknown" };
  }
}

function passCall(path: Path, convention: Convention): ValueUse | null {
  for (const place of path.copies.keys()) {
    if (typeof place !== "number") continue;
    if (convention.argumentRegisters.has(place)) {
      // AArch64 returns a value where the next call takes its first argument: nobody can tell which it is.
      return { kind: place === convention.result ? "unknown" : "used" };
    }
    if (!convention.savedRegisters.has(place)) path.copies.delete(place);
  }
  return null;
}
