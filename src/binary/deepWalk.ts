// SPDX-License-Identifier: Apache-2.0
/**
 * The middle of a deep stack, of which no frame is kept: a stack overflow has hundred thousands of frames, and the program
 * stands still while they are walked.
 *
 * Gets a frame in the middle; gives a later one, so many frames before the first that is not left by a plain row (CFA from a
 * register, the return address and registers that a callee saves at fixed places). A step computes with doubles, allocates
 * nothing and keeps where a register was saved, not what it holds. Every frame that it passes would have been passed by
 * the usual walk, with the same registers in the end. Limit: the caller's frames.
 */
import { type CallingConvention, callingConvention } from "./callingConvention.ts";
import type { Row } from "./cfi.ts";
import { stripped } from "./restore.ts";
import type { OpenFrame, UnwindMemory } from "./unwindTypes.ts";

/** How to leave a frame. Places in bytes from the CFA. */
type Step = {
  readonly cfaRegister: number;
  readonly cfaOffset: number;
  readonly returnAt: number;
  readonly saved: readonly { readonly register: number; readonly at: number }[];
  /** The return address that was found last, and the step from there: recursion finds the same again and again. */
  callerPc: number;
  caller: Step | null;
};

/** A frame on the way: it is called from `pc` - 1; `slots` are the addresses that its registers were saved at, -1 for nowhere. */
type Mark = { pc: number; sp: number; walked: number; readonly slots: Float64Array };

export type Leap = {
  readonly pc: bigint;
  readonly registers: (bigint | null)[];
  /** The lower bound of its CFA. */
  readonly floor: number;
  readonly walked: number;
};

const nowhere = -1;

export class DeepWalk {
  readonly #convention: CallingConvention;
  readonly #steps = new Map<number, Step | null>();

  constructor(private readonly memory: UnwindMemory) {
    this.#convention = callingConvention[memory.codeMap.architecture];
  }

  /**
   * The last frame that lies `spared` frames or more before the end of what can be walked so, at a multiple of `spared`; null
   * where it is not worth it. `floor`: lower bound of the CFA of `frame`. At most `limit` frames are walked.
   */
  leap(frame: OpenFrame, floor: number, spared: number, limit: number): Leap | null {
    const { sp: spRegister } = this.#convention;
    const first = frame.registers[spRegister] ?? null;
    if (frame.interrupted || first === null) return null;
    const slots = new Float64Array(frame.registers.length).fill(nowhere);
    const mark = (): Mark => ({ pc: 0, sp: 0, walked: 0, slots: new Float64Array(slots.length) });
    let [last, beforeLast] = [mark(), mark()];
    let [pc, sp, bound] = [Number(frame.pc), Number(first), floor];
    let step = this.#stepFrom(pc);
    for (let walked = 0; ; walked += 1) {
      if (walked % spared === 0) {
        [last, beforeLast] = [beforeLast, last];
        Object.assign(last, { pc, sp, walked });
        last.slots.set(slots);
      }
      if (step === null || walked >= limit) break;
      const { cfaRegister } = step;
      const from = cfaRegister === spRegister ? sp : this.#valueOf(cfaRegister, slots, frame);
      const cfa = from + step.cfaOffset;
      const caller = cfa > bound ? this.#returnAddress(cfa + step.returnAt) : Number.NaN;
      if (Number.isNaN(caller)) break;
      for (let index = 0; index < step.saved.length; index += 1) {
        const { register, at } = step.saved[index]!;
        slots[register] = cfa + at;
      }
      if (caller !== step.callerPc) {
        step.callerPc = caller;
        step.caller = this.#stepFrom(caller);
      }
      step = step.caller;
      pc = caller;
      sp = bound = cfa;
    }
    return beforeLast.walked === 0 ? null : this.#at(beforeLast, frame);
  }

  #at({ pc, sp, walked, slots }: Mark, frame: OpenFrame): Leap {
    const { calleeSaved, link, ...convention } = this.#convention;
    const registers: (bigint | null)[] = new Array(convention.names.length).fill(null);
    for (const register of calleeSaved) {
      const slot = slots[register]!;
      registers[register] = slot === nowhere ? (frame.registers[register] ?? null) : this.memory.window.word(slot);
    }
    registers[convention.sp] = BigInt(sp);
    registers[convention.pc] = BigInt(pc);
    if (link !== null) registers[link] = BigInt(pc);
    return { pc: BigInt(pc), registers, floor: sp, walked };
  }

  /** NaN where it is not known, and wrong where it is no user address: there nothing can be read then. */
  #valueOf(register: number, slots: Float64Array, frame: OpenFrame): number {
    const slot = slots[register]!;
    if (slot !== nowhere) return this.memory.window.wordAsNumber(slot);
    return Number(frame.registers[register] ?? Number.NaN);
  }

  #returnAddress(at: number): number {
    const { window, mask } = this.memory;
    if (this.#convention.link === null) return window.wordAsNumber(at);
    const word = window.word(at);
    return word === null ? Number.NaN : Number(stripped(word, mask));
  }

  #stepFrom(pc: number): Step | null {
    const known = this.#steps.get(pc);
    if (known !== undefined) return known;
    const place = this.memory.codeMap.locate(pc - 1);
    const row = place === null ? null : place.image.rowAt(place.offset);
    const step = row === null ? null : plainStep(row, this.#convention);
    this.#steps.set(pc, step);
    return step;
  }
}

/** null where the row asks for more than a step knows. */
function plainStep(row: Row, { calleeSaved, names }: CallingConvention): Step | null {
  const { cfaRegister, cfaOffset, cfaExpression, rules, isOutermost } = row;
  const { returnColumn, signal } = row.fde.cie;
  if (isOutermost || signal || cfaExpression !== null || cfaRegister < 0 || cfaRegister >= names.length) return null;
  const back = rules.find(({ register }) => register === returnColumn);
  // What lies above the CFA moves it on AArch64 (restore.ts).
  if (back?.kind !== "offset" || back.operand >= 0) return null;
  const others = rules.filter((rule) => rule !== back);
  if (others.some(({ kind, register }) => kind !== "offset" || !calleeSaved.includes(register))) return null;
  const saved = others.map(({ register, operand }) => ({ register, at: operand }));
  return { cfaRegister, cfaOffset, returnAt: back.operand, saved, callerPc: Number.NaN, caller: null };
}
