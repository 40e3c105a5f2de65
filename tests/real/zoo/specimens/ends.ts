// SPDX-License-Identifier: Apache-2.0
/**
 * Programs that end themselves inside a request, in C, C++, Rust and Go; and faults inside signal handlers of the program.
 */
import type { Specimen } from "../specimen.ts";
import { afterwards, each, ended, survived } from "./memory.ts";

const protectedStack = { source: "aborts.c", flags: ["-fstack-protector-strong"] };
const fortified = { source: "aborts.c", flags: ["-D_FORTIFY_SOURCE=2"] };
const handled = { source: "aborts.c", flags: ["-DHANDLED"] };

const aborts: readonly Specimen[] = [
  ...each("aborts.c", ["abort"], survived, { core: true }),
  ...each("aborts.c", ["assert", "raise", "kill", "tgkill", "own"], survived),
  ...each("aborts.c", ["abort", "assert", "raise", "kill", "tgkill", "own"], survived, {
    name: "with handlers of its own",
    build: handled,
  }),
  ...each("aborts.c", ["fortify"], survived, { build: fortified }),
  // Where the registers of the main loop were among what was overwritten, no way leads back to it. On AArch64 a frame keeps its
  // return address below its variables: what is overwritten is that of its caller, always.
  ...each("aborts.c", ["guard", "guards"], ended("SIGABRT"), { build: protectedStack }),
  ...each("aborts.c", ["guard"], process.arch === "arm64" ? ended("SIGABRT") : survived, {
    name: "-O0",
    core: true,
    build: { source: "aborts.c", flags: ["-fstack-protector-strong", "-O0"] },
  }),
  ...each(
    "aborts.c",
    ["guard"],
    { trials: ["park degraded"], culprit: ["given up"], program: "same" },
    {
      name: "threads",
      loop: "threads",
      build: protectedStack,
    },
  ),
  ...each(
    "aborts.c",
    ["overrun"],
    { ...ended(process.arch === "arm64" ? "SIGSEGV" : "SIGABRT"), trials: ["more failed"] },
    { build: protectedStack },
  ),
];

const throwing: readonly Specimen[] = [
  ...each("exceptions.cc", ["throw"], survived, { core: true }),
  ...each("exceptions.cc", ["terminate", "noexcept", "at", "join", "null", "pure", "deleted"], survived),
  {
    name: "exceptions.cc die throw, and exceptions that are caught still work",
    build: { source: "exceptions.cc" },
    deed: afterwards("die throw", "caught", "caught"),
    expected: { ...survived, culprit: ["lost", "said caught", "said caught"] },
  },
];

/** The value of a Rust function is in memory, and what an abandoned one left there is anything: its thread may end. */
const rust: readonly Specimen[] = each(
  "panic.rs",
  ["index", "unwrap", "overflow", "cell", "null", "abort"],
  { ...survived, trials: ["request degraded"] },
  { loop: "threads" },
);

const go: readonly Specimen[] = [
  ...each("panic.go", ["recover"], { trials: [], culprit: ["said true"], program: "same" }),
  ...each("panic.go", ["nil", "index"], ended("code 2")),
];

/** Its own return ends the handler, so the request goes on as if it had done its work. Mask and stack are as before. */
const handlers: readonly Specimen[] = [
  ...["raise", "stack", "nested"].map(
    (word): Specimen => ({
      name: `signals.c die ${word}`,
      build: { source: "signals.c" },
      core: word === "raise",
      deed: afterwards(`die ${word}`, "mask", "count"),
      expected: { trials: ["abandon clean"], culprit: ["said alive", "said 0", "said 4"], program: "same" },
    }),
  ),
  // No handler comes to its end: after a second of that the request is abandoned, out of the handler, mask and all.
  {
    name: "signals.c die again",
    build: { source: "signals.c" },
    deed: afterwards("die again", "mask", "count"),
    expected: { trials: ["more failed", "request clean"], culprit: ["lost", "said 0", "said 4"], program: "same" },
  },
  {
    name: "signals.c die timer",
    build: { source: "signals.c" },
    deed: ["die timer"],
    expected: { trials: ["abandon clean"], culprit: ["said alive"], program: "same" },
  },
];

export const programEnds: readonly Specimen[] = [...aborts, ...throwing, ...rust, ...go, ...handlers];
