// SPDX-License-Identifier: Apache-2.0
/** By which signals a server may end at a crash command. */
import type { Trigger } from "#appliance/demo/triggers.ts";

/**
 * redis tests its memory in its last words, over all of its thread-local memory too: where it is preempted then, the kernel
 * finds no restartable sequence there and ends it by SIGSEGV, before its own abort, with a guard or without.
 */
export const signalsOf = ({ program, signal }: Trigger): readonly string[] =>
  program === "redis-server" ? [signal, "SIGSEGV"] : [signal];
