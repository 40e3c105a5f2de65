// SPDX-License-Identifier: Apache-2.0
/**
 * Functions whose purpose is to end the program, or to throw what nobody may catch: whatever they call, and through whatever
 * pointers, the error was their caller's. Gets a symbol; says yes or no.
 *
 * Names of the C library, the C++ runtime (libstdc++, libc++abi, libgcc's unwinder) and Rust's. `exit` is none of them:
 * it ends a program in order, and what fails in it must not bring the program back.
 */
const enders =
  /^(?:abort|__assert(?:_fail|_perror_fail)?|__stack_chk_fail(?:_local)?|__fortify_fail|__chk_fail|__libc_fatal|_ZSt9terminatev|_ZSt10unexpectedv|_ZSt\d+__throw_\w+|__cxa_(?:throw|rethrow|bad_cast|bad_typeid|throw_bad_array_\w+|call_unexpected|call_terminate|pure_virtual|deleted_virtual)|_Unwind_Resume|__clang_call_terminate|rust_panic|\w*rust_begin_unwind)$/;

export const endsProgram = (symbol: string | null): boolean => symbol !== null && enders.test(symbol);
