// SPDX-License-Identifier: Apache-2.0
/**
 * redis tests its memory in its last words, over all of its thread-local memory too: where it is preempted then, the kernel
 * finds no restartable sequence there and ends it by SIGSEGV, with a guard or without.
 */
import type { ServerProgram } from "#appliance/demo/serverRecipes.ts";

/** Arguments of a server, to be added to its own, where a test asks for the signal that ends it. */
export const withoutMemoryTest = (program: ServerProgram): readonly string[] =>
  program === "redis-server" ? ["--crash-memcheck-enabled", "no"] : [];
