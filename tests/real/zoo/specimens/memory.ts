// SPDX-License-Identifier: Apache-2.0
/**
 * Faults of the processor inside a request: memory that is not there, code that is not there, a stack at its end, a heap in
 * ruins, instructions that fault by themselves.
 */
import { wordOf } from "../client.ts";
import type { Expected, Specimen, Stage } from "../specimen.ts";

/** The one request is lost, nothing else. */
export const survived: Expected = { trials: ["request clean"], culprit: ["lost"], program: "same" };
export const degraded: Expected = { trials: ["request degraded"], culprit: ["lost"], program: "same" };
export const ended = (program: string): Expected => ({ trials: [], culprit: ["cut"], program });

/** One specimen for each word after `die`. */
export const each = (
  source: string,
  words: readonly string[],
  expected: Expected,
  changes: Partial<Specimen> = {},
): Specimen[] =>
  words.map((word) => ({
    build: { source },
    deed: [`die ${word}`],
    expected,
    ...changes,
    name: `${source} die ${word}${changes.name === undefined ? "" : `, ${changes.name}`}`,
  }));

/** Another client asks when the culprit has had its answer, or its end. */
export const afterwards =
  (deed: string, ...questions: readonly string[]) =>
  async ({ enter }: Stage): Promise<readonly string[]> => {
    const heard = [wordOf(await (await enter()).ask(deed))];
    const other = await enter();
    for (const question of questions) heard.push(wordOf(await other.ask(question)));
    return heard;
  };

const accesses: readonly Specimen[] = [
  ...each("memory.c", ["load"], survived, { core: true }),
  ...each("memory.c", ["store", "wild", "noncanonical", "kernel", "readonly", "copy", "length"], survived),
];

const calls: readonly Specimen[] = [
  ...each("calls.c", ["null"], survived, { core: true }),
  ...each("calls.c", ["data", "heap", "stack", "unmapped", "noncanonical", "kernel", "jump"], survived),
  ...each("calls.c", ["smash"], ended("SIGSEGV")),
  // On AArch64 the return address was in the link register, too: nothing says any more where the call came from.
  ...each("calls.c", ["smash"], process.arch === "arm64" ? ended("SIGSEGV") : survived, {
    name: "-O0",
    build: { source: "calls.c", flags: ["-O0"] },
  }),
];

const stacks: readonly Specimen[] = [
  ...each("depth.c", ["small", "large", "alloca"], survived, { name: "main thread" }),
  ...each("depth.c", ["small", "large", "alloca"], survived, { name: "worker thread", loop: "workers" }),
  ...each("depth.c", ["mutual"], survived, { name: "main thread" }),
  ...each("depth.c", ["mutual"], survived, { name: "worker thread", loop: "workers" }),
];

/** glibc's own word for heap damage is abort; the allocator is never trusted again, and `use` shows that it works. */
const heaps: readonly Specimen[] = [
  ...each("heap.c", ["double", "pointer", "list"], degraded),
  ...each("heap.c", ["size", "arena"], { ...degraded, trials: ["request degraded", "more degraded"] }),
  {
    name: "heap.c die double, and the allocator is used",
    build: { source: "heap.c" },
    deed: afterwards("die double", "use"),
    expected: { ...degraded, culprit: ["lost", "said whole"] },
  },
];

const instructions = { source: "instructions.c", flags: ["-lm"] };

const others: readonly Specimen[] = [
  ...each("library.c", ["length", "format", "print", "once"], survived),
  // The comparator is a boundary of the C library: it gives up one comparison after the other.
  ...each("library.c", ["sort"], { ...survived, trials: ["more failed", "request clean", "more clean"] }),
  ...each("mapped.c", ["read", "write", "copy"], survived),
  ...each("instructions.c", ["illegal", "trap", "breakpoint", "privileged"], survived, { build: instructions }),
  // An AArch64 processor divides by zero without a word.
  ...each("instructions.c", ["divide", "overflow", "float", "align"], survived, { build: instructions, only: "x64" }),
  {
    name: "instructions.c die backwards, and string instructions are used",
    only: "x64",
    build: instructions,
    deed: afterwards("die backwards", "order"),
    expected: { ...survived, culprit: ["lost", "said forwards"] },
  },
  ...each("filter.c", ["trap"], survived),
  ...each("filter.c", ["kill"], ended("SIGSYS")),
  ...each("half.c", ["now"], survived),
  ...each("sequence.c", ["garbage", "data"], {
    trials: ["neutralise degraded"],
    culprit: ["said alive"],
    program: "same",
  }),
];

export const processorFaults: readonly Specimen[] = [...accesses, ...calls, ...stacks, ...heaps, ...others];
