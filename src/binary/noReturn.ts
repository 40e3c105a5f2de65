// SPDX-License-Identifier: Apache-2.0
/**
 * Return addresses at which no code can go on, because the function that was called never returns. Gets an image.
 *
 * Compilers put no code behind a call that does not return: its return address is then the end of the function, padding,
 * or another block that only branches reach. A callee is taken for one that never returns where one of its calls ends a
 * function and nearly all others are followed by a branch target; and by name where the C and C++ standards say so.
 * The scan runs in steps, in the background; until it is done, names and the ends of functions are known already.
 */
import { callEndingAt, patternBytesMax } from "./callPattern.ts";
import { CallScan } from "./callScan.ts";
import type { ElfImage } from "./elf.ts";
import { stubName } from "./plt.ts";

/** Functions that do not return, by name: C, POSIX, glibc's and compilers' own, and the C++ runtime. */
const names: ReadonlySet<string> = new Set(
  `abort exit _exit _Exit quick_exit pthread_exit thrd_exit longjmp _longjmp siglongjmp __longjmp_chk ____longjmp_chk
  __assert_fail __assert __assert_perror_fail __stack_chk_fail __fortify_fail __chk_fail __libc_fatal __libc_start_main
  __libc_start_call_main __cxa_throw __cxa_rethrow __cxa_bad_cast __cxa_bad_typeid __cxa_throw_bad_array_new_length
  __cxa_call_unexpected __cxa_pure_virtual __cxa_deleted_virtual _Unwind_Resume _ZSt9terminatev _ZSt10unexpectedv
  _ZSt17__throw_bad_allocv _ZSt16__throw_bad_castv _ZSt19__throw_logic_errorPKc _ZSt20__throw_length_errorPKc
  _ZSt20__throw_out_of_rangePKc _ZSt24__throw_out_of_range_fmtPKcz _ZSt24__throw_invalid_argumentPKc
  _ZSt21__throw_runtime_errorPKc _ZSt20__throw_system_errori _ZSt25__throw_bad_function_callv
  _ZSt28__throw_bad_array_new_lengthv err errx verr verrx error_at_line __clang_call_terminate rust_panic`.split(/\s+/),
);

/** Share of a callee's calls that must have nothing but a branch target or an end behind them. */
const deadShareMin = 0.75;
/** Padding between functions is at most one cache line, a little more where functions are aligned by 64. */
const paddingBytesMax = 128;

export class NoReturn {
  #scan: CallScan | null;
  readonly #callees = new Set<number>();
  readonly #counts = new Map<number, { calls: number; dead: number; ends: number }>();
  #counted = 0;

  constructor(private readonly image: ElfImage) {
    this.#scan = new CallScan(image);
  }

  /** True once `step` has nothing left to do. */
  get isPrepared(): boolean {
    return this.#scan === null;
  }

  /** Looks at about `stepBytes` more of the code. False once all is done. Takes some 10 ms for a million bytes. */
  step(stepBytes: number): boolean {
    const scan = this.#scan;
    if (scan === null) return false;
    if (scan.step(stepBytes) || this.#count(scan, stepBytes >>> 6)) return true;
    this.#scan = null;
    for (const [callee, { calls, dead, ends }] of this.#counts) {
      if (ends > 0 && ends + dead >= deadShareMin * calls) this.#callees.add(callee);
    }
    this.#counts.clear();
    return false;
  }

  /** Functions and linkage stubs found to never return, by offset. */
  get callees(): ReadonlySet<number> {
    return this.#callees;
  }

  /** Whether the function or linkage stub at `callee` never returns, as far as is known. */
  neverReturns(callee: number): boolean {
    if (this.#callees.has(callee)) return true;
    const symbol = this.image.symbolAt(callee);
    if (symbol !== null) return symbol.start === callee && names.has(symbol.name);
    return isKnownStub(stubName(this.image, callee));
  }

  /** False where no code can go on at `returnOffset`: function end, padding, or the function called never returns. */
  canFollow(returnOffset: number): boolean {
    if (endsFunction(this.image, returnOffset)) return false;
    const code = this.image.codeAt(returnOffset - patternBytesMax, patternBytesMax);
    if (code.length < patternBytesMax) return true;
    const call = callEndingAt(this.image.architecture, code, returnOffset);
    if (call === null) return true;
    if (call.target !== null) return !this.neverReturns(call.target);
    const slot = this.image.architecture === "x86_64" ? x86Slot(code, returnOffset) : null;
    return slot === null || !names.has(this.image.slots.get(slot) ?? "");
  }

  /** Looks behind `callsMax` more of the calls that were found. False once all are counted. */
  #count(scan: CallScan, callsMax: number): boolean {
    const { calls } = scan;
    const to = Math.min(calls.length, this.#counted + 2 * Math.max(1, callsMax));
    for (; this.#counted < to; this.#counted += 2) {
      const returnOffset = calls[this.#counted]!;
      const callee = calls[this.#counted + 1]!;
      const count = this.#counts.get(callee) ?? { calls: 0, dead: 0, ends: 0 };
      this.#counts.set(callee, count);
      count.calls += 1;
      const mayEnd = scan.isFunctionStart(returnOffset) || isPaddingStart(this.image, returnOffset);
      if (mayEnd && endsFunction(this.image, returnOffset)) count.ends += 1;
      else if (scan.isBranchTarget(returnOffset)) count.dead += 1;
    }
    return this.#counted < calls.length;
  }
}

const isKnownStub = (name: string | null): boolean => name !== null && names.has(name.slice(0, -"@plt".length));

/** True where `returnOffset` is the end of the function that made the call, or only padding is left of it. */
function endsFunction(image: ElfImage, returnOffset: number): boolean {
  const fde = image.fdeAt(returnOffset - 1);
  if (fde === null) return false;
  if (returnOffset >= fde.end) return true;
  if (fde.end - returnOffset > paddingBytesMax) return false;
  const rest = image.codeAt(returnOffset, fde.end - returnOffset);
  return image.architecture === "x86_64" ? isX86Padding(rest) : isArmPadding(rest);
}

function isPaddingStart(image: ElfImage, offset: number): boolean {
  const code = image.codeAt(offset, 4);
  if (image.architecture === "aarch64") return isArmPadding(code);
  const first = code[0];
  return first === 0x90 || first === 0xcc || first === 0x66 || first === 0x0f || first === 0xf4 || first === 0x2e;
}

/** Only no-operations (`nop`, `nopw`, `nopl` with any operand), `int3`, `ud2` and `hlt`. */
function isX86Padding(code: Uint8Array): boolean {
  let at = 0;
  while (at < code.length) {
    while (code[at] === 0x66 || code[at] === 0x2e) at += 1;
    const opcode = code[at];
    if (opcode === 0x90 || opcode === 0xcc || opcode === 0xf4) at += 1;
    else if (opcode === 0x0f && code[at + 1] === 0x0b) at += 2;
    else if (opcode === 0x0f && code[at + 1] === 0x1f) at += 2 + operandBytes(code[at + 2] ?? 0);
    else return false;
  }
  return true;
}

/** Length of a ModRM byte with what belongs to it; the forms that no-operations use. */
function operandBytes(modRm: number): number {
  const mode = modRm >> 6;
  const scaled = mode !== 3 && (modRm & 7) === 4 ? 1 : 0;
  if (mode === 1) return 2 + scaled;
  return mode === 2 ? 5 + scaled : 1 + scaled;
}

/** `nop`, `brk`, and the zero word that is `udf #0`. */
function isArmPadding(code: Uint8Array): boolean {
  if (code.length % 4 !== 0) return false;
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  for (let at = 0; at < code.length; at += 4) {
    const word = view.getUint32(at, true);
    if (word !== 0xd503201f && word !== 0 && (word & 0xffe0001f) >>> 0 !== 0xd4200000) return false;
  }
  return true;
}

/** The slot of `call *slot(%rip)` (`ff 15`) at the end of `code`. */
function x86Slot(code: Uint8Array, returnOffset: number): number | null {
  const at = code.length - 6;
  if (code[at] !== 0xff || code[at + 1] !== 0x15) return null;
  return returnOffset + new DataView(code.buffer, code.byteOffset + at + 2, 4).getInt32(0, true);
}
