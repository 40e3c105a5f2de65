// SPDX-License-Identifier: Apache-2.0
/**
 * The order of the ladder. Gets sketches of stacks; gives the proposed edits in words, best first.
 */
import { describe, expect, test } from "bun:test";
import { decide } from "#appliance/decide.ts";
import { address, type FaultReport, type TrialId } from "#fault.ts";
import { defaultPolicy, keyOf, plan } from "#suppression/plan.ts";
import { siteOf } from "#suppression/site.ts";
import { offsetOf, pastTrial, report } from "../reports.ts";

/** An event loop: main, loop and wait are the spine; the callback runs a command through a pointer. */
const evented = [
  { name: "deref" },
  { name: "command", by: "pointer" },
  { name: "call" },
  { name: "readQuery", by: "pointer" },
  { name: "processEvents" },
  { name: "loop" },
  { name: "main" },
] as const;

const edits = (fault: FaultReport, ...trials: Parameters<typeof plan>[1]): string[] => {
  const proposal = plan(fault, trials, defaultPolicy);
  if (proposal.kind === "deliver") return [`deliver ${proposal.reason}`];
  return proposal.edits.map((edit) =>
    edit.kind === "abandon"
      ? `${edit.rung} ${fault.frames[edit.point.frame]!.symbol}=${edit.point.returnValue}`
      : edit.kind,
  );
};

describe("plan", () => {
  test("goes from the innermost interface frame outwards, then inward, and neutralises last", () => {
    expect(edits(report(evented, { spine: 4 }))).toEqual([
      "abandon command=-1",
      "abandon command=0",
      "abandon readQuery=-1",
      "abandon readQuery=0",
      "inward deref=0",
      "inward deref=-1",
      "inward call=0",
      "inward call=-1",
      "neutralise",
    ]);
  });

  test("a boundary whose value is used without a look comes after those that are tested or ignored", () => {
    const hashed = report(
      [
        { name: "hash", by: "pointer", after: "used" },
        { name: "find", after: "tested" },
        { name: "command", by: "pointer", after: "ignored" },
        { name: "loop" },
        { name: "main" },
      ],
      { spine: 3 },
    );
    expect(edits(hashed)).toEqual([
      "abandon command=-1",
      "abandon hash=0",
      "abandon hash=-1",
      "inward find=0",
      "inward find=-1",
      "neutralise",
    ]);
  });

  test("the value that the caller's test takes for a failure goes first; inward, tested frames go first", () => {
    const stack = [
      { name: "fill", after: "ignored" },
      { name: "find", after: "tested", failure: -1n },
      { name: "command", by: "pointer", failure: 0n },
      { name: "loop" },
      { name: "main" },
    ] as const;
    expect(edits(report(stack, { spine: 3 }))).toEqual([
      "abandon command=0",
      "abandon command=-1",
      "inward find=-1",
      "inward find=0",
      "inward fill=-1",
      "neutralise",
    ]);
  });

  test("never abandons a spine frame", () => {
    const inSpine = report(evented.slice(4), { spine: 0 });
    expect(edits(inSpine)).toEqual(["neutralise"]);
  });

  test("gives up one turn of a loop whose caller calls it again, where the loop itself faults", () => {
    const inSpine = report(evented.slice(4), { spine: 0 });
    const looped = inSpine.frames.map((frame, index) => (index === 0 ? { ...frame, inLoop: true } : frame));
    expect(edits({ ...inSpine, frames: looped })[0]).toBe("abandon processEvents=-1");
    const above = report(evented, { spine: 4 });
    const alsoAbove = above.frames.map((frame, index) => (index >= 4 ? { ...frame, inLoop: true } : frame));
    expect(edits({ ...above, frames: alsoAbove })).toEqual(edits(above));
  });

  test("returns to a main loop what keeps it going, where the failure value would end it", () => {
    const inLoop = report([{ name: "turn" }, { name: "loop" }, { name: "main" }], { spine: 1 });
    const kept = inLoop.frames.map((frame, index) => (index === 0 ? { ...frame, loopValue: 0n } : frame));
    const above = edits({ ...inLoop, frames: kept });
    expect(above[0]).toBe("abandon turn=0");
    expect(above).not.toContain("abandon turn=-1");
    const turning = { ...inLoop, spine: 0, frames: kept.map((frame, index) => ({ ...frame, inLoop: index === 0 })) };
    expect(edits(turning)).toEqual(["abandon turn=0", expect.stringContaining("neutralise")]);
    expect(edits(inLoop)[0]).toBe("abandon turn=-1");
  });

  test("without an interface frame it takes the outermost frame above the spine before anything else", () => {
    const direct = report([{ name: "a" }, { name: "b" }, { name: "c" }, { name: "loop" }, { name: "main" }], {
      spine: 3,
    });
    expect(edits(direct).slice(0, 3)).toEqual(["abandon c=-1", "abandon c=0", "inward a=0"]);
  });

  test("without a known spine the thread's start routine is never abandoned", () => {
    const unknown = report([
      { name: "work" },
      { name: "step", by: "pointer" },
      { name: "threadMain", by: "pointer" },
      { name: "startThread" },
    ]);
    expect(edits(unknown).filter((edit) => edit.includes("threadMain"))).toEqual([]);
    expect(edits(unknown)[0]).toBe("abandon step=-1");
  });

  test("never returns to where no code can follow", () => {
    const dead = report(
      [{ name: "raise" }, { name: "abort", after: "never" }, { name: "check", after: "never" }, ...evented.slice(1)],
      { spine: 6, signal: "SIGABRT" },
    );
    expect(edits(dead)).not.toContain("inward abort=0");
    expect(edits(dead)).not.toContain("inward check=0");
    expect(edits(dead)[0]).toBe("abandon command=-1");
  });

  test("inward leaves out frames whose value is used untested, and everything inside the allocator", () => {
    const used = report([{ name: "deref", after: "used" }, ...evented.slice(1)], { spine: 4 });
    expect(edits(used)).not.toContain("inward deref=0");
    expect(edits({ ...used, inAllocator: true }).some((edit) => edit.startsWith("inward"))).toBe(false);
  });

  test("what was proven at the site goes first, what failed there does not", () => {
    const fault = report(evented, { spine: 4 });
    const key = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 3, returnValue: 0n } });
    expect(edits(fault, pastTrial({ site: fault.site, key, verdict: "clean" }))[0]).toBe("abandon readQuery=0");
    expect(edits(fault, pastTrial({ site: fault.site, key, verdict: "failed" }))[0]).toBe("abandon command=-1");
    const elsewhere = { fault: "abc+0x99", boundary: "" };
    expect(edits(fault, pastTrial({ site: elsewhere, key, verdict: "clean" }))[0]).toBe("abandon command=-1");
  });

  test("code whose registers are not all known is returned to last", () => {
    const fault = report(evented, { spine: 4 });
    const torn = fault.frames.map((frame, index) =>
      index === 2 || index === 3 ? { ...frame, registers: [...frame.registers].with(3, null) } : frame,
    );
    expect(edits({ ...fault, frames: torn })).toEqual([
      "abandon readQuery=-1",
      "abandon readQuery=0",
      "inward deref=0",
      "inward deref=-1",
      "abandon command=-1",
      "abandon command=0",
      "inward call=0",
      "inward call=-1",
      "neutralise",
    ]);
  });

  test("an allocator that is abandoned gives a null pointer, and nothing else", () => {
    const inCalloc = report(
      [{ name: "sysmalloc" }, { name: "__libc_calloc", by: "library" }, { name: "loop" }, { name: "main" }],
      {
        spine: 2,
        inAllocator: true,
      },
    );
    expect(edits(inCalloc)).toEqual(["abandon __libc_calloc=0", "neutralise"]);
  });

  test("a signal handler is a boundary: its return is the way back to what it interrupted", () => {
    const inHandler = report(
      [
        { name: "deref" },
        { name: "onAlarm", by: "signal", after: "ignored" },
        { name: "trampoline", by: "none", cfa: null },
        { name: "poll", by: "library" },
        { name: "loop" },
        { name: "main" },
      ],
      { spine: 3 },
    );
    expect(edits(inHandler)[0]).toBe("abandon onAlarm=-1");
    expect(edits(inHandler).filter((edit) => edit.includes("trampoline"))).toEqual([]);
  });

  test("an abort that the spine itself has called is returned to by nobody", () => {
    const frames = [{ name: "raise" }, { name: "abort", after: "never" }, { name: "loop" }, { name: "main" }] as const;
    const fault = report(frames, { signal: "SIGABRT", spine: 2 });
    expect(edits(fault)).toEqual(["deliver exhausted"]);
    expect(siteOf(fault.frames, fault.modules, fault.spine, fault.signal).fault).toBe(
      `abc+0x${offsetOf("loop").toString(16)}`,
    );
  });

  test("an abort is never neutralised", () => {
    expect(edits(report(evented, { spine: 4, signal: "SIGABRT" }))).not.toContain("neutralise");
  });

  test("a signal that is no fault is delivered", () => {
    const sent = { number: 11, code: 0, faultAddress: null, senderPid: 7 };
    expect(edits(report(evented, { spine: 4, cause: sent }))).toEqual(["deliver sentByProcess"]);
    const raised = { number: 6, code: -6, faultAddress: null, senderPid: 100 };
    expect(edits(report(evented, { spine: 4, cause: raised }))[0]).toBe("abandon command=-1");
    const handling = [...evented.slice(0, 2), { name: "handler", by: "signal" } as const, ...evented.slice(3)];
    expect(edits(report(handling, { spine: 4, cause: raised, deliveredBefore: "SIGSEGV" }))).toEqual([
      "deliver raisedByHandler",
    ]);
    expect(edits(report(handling, { spine: 4 }))[0]).toBe("abandon command=-1");
    expect(edits(report(evented, { spine: 4, codeAt: "anonymous", caught: true }))).toEqual([
      "deliver runtimeOwnsSignal",
    ]);
    expect(edits(report(evented, { spine: 4, codeAt: "anonymous", caught: false }))[0]).toBe("abandon command=-1");
    expect(edits(report(evented, { spine: 4, serving: false }))).toEqual(["deliver notServing"]);
  });

  test("a stack without a way out leaves only the signal", () => {
    const hopeless = report([{ name: "lost", cfa: null }], { instruction: null, complete: false });
    expect(edits(hopeless)).toEqual(["deliver exhausted"]);
  });
});

describe("siteOf", () => {
  test("the way to an abort may lead through pointers, as it does in C++", () => {
    const thrown = [
      { name: "raise" },
      { name: "abort", after: "never" },
      { name: "verboseTerminate", by: "pointer", after: "unknown" },
      { name: "terminateInside", after: "never" },
      { name: "_ZSt9terminatev", by: "library", after: "never" },
      { name: "personality", by: "pointer" },
      { name: "__cxa_throw", by: "library", after: "unknown" },
      { name: "fail" },
      { name: "command", by: "pointer" },
      { name: "loop", after: "never" },
      { name: "main" },
    ] as const;
    const at = (name: string): string => `abc+0x${offsetOf(name).toString(16)}`;
    for (const spine of [9, null]) {
      const fault = report(thrown, { signal: "SIGABRT", spine });
      const site = siteOf(fault.frames, fault.modules, spine, fault.signal);
      expect(site).toEqual({ fault: at("fail"), boundary: at("loop") });
    }
  });

  const place = (name: string): string => `abc+0x${offsetOf(name).toString(16)}`;

  test("a fault of the processor has the site of its instruction", () => {
    const { frames, modules } = report(evented);
    expect(siteOf(frames, modules, 4, "SIGSEGV")).toEqual({ fault: place("deref"), boundary: place("call") });
  });

  test("an abort has the site of the caller of the chain that never returns", () => {
    const { frames, modules } = report([
      { name: "raise" },
      { name: "abort", after: "never" },
      { name: "assertFail", after: "never" },
      { name: "command", by: "pointer" },
      { name: "processEvents" },
      { name: "main" },
    ]);
    expect(siteOf(frames, modules, 4, "SIGABRT")).toEqual({
      fault: place("command"),
      boundary: place("processEvents"),
    });
  });
});

describe("a signal that was given to the program", () => {
  const stack = [{ name: "kill" }, { name: "handler", by: "signal" }, { name: "poll" }, { name: "main" }] as const;
  const raised = { number: 11, code: 0, faultAddress: null, senderPid: 100 };

  test("is given again when its handler raises it again", () => {
    const again = report(stack, { spine: 2, cause: raised, deliveredBefore: "SIGSEGV" });
    expect(edits(again)).toEqual(["deliver raisedByHandler"]);
  });

  test("does not excuse a fault outside the handler, nor a handler that faults by itself", () => {
    expect(edits(report(evented, { spine: 4, deliveredBefore: "SIGSEGV" }))[0]).toBe("abandon command=-1");
    expect(edits(report(stack, { spine: 2, cause: raised }))[0]).not.toBe("deliver raisedByHandler");
  });
});

test("a mend goes before whatever worked at the site", () => {
  const fault = report(evented, { spine: 4, damagedSequence: 0x1000n as NonNullable<FaultReport["damagedSequence"]> });
  const key = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } });
  expect(edits(fault, pastTrial({ site: fault.site, key, verdict: "clean" }))[0]).toBe("mend");
});

describe("leave", () => {
  const leaveAt = address(0x7f00_0000_1000n);

  test("comes first in a process of one connection, also where the state is blamed, and before what has worked there", () => {
    const fault = report(evented, { spine: 4, leaveAt });
    const key = edits(fault)[1]!;
    expect(edits(fault, pastTrial({ site: fault.site, key, verdict: "clean" }))[0]).toBe("leave");
    expect(edits(report(evented, { spine: 4 }))).not.toContain("leave");
    const veterans = ["a", "b"].map((peer, index) =>
      pastTrial({
        ...{ trial: `fault-${index + 2}.1` as TrialId, site: fault.site, verdict: "clean", key, atMs: fault.atMs - 10 },
        ...{ veteran: true, session: { fd: 6, peer, confidence: 1 } },
      }),
    );
    expect(decide(fault, plan(fault, veterans, defaultPolicy), veterans, defaultPolicy).key).toBe("leave");
  });

  test("is not done where the policy has no parking, and not twice where it failed", () => {
    const fault = report(evented, { spine: 4, leaveAt });
    const rungs = new Set(["abandon" as const]);
    const without = plan(fault, [], { ...defaultPolicy, rungs });
    expect(without.kind === "edits" && without.edits.some(({ kind }) => kind === "leave")).toBe(false);
    const failed = [pastTrial({ site: fault.site, key: "leave", verdict: "failed" })];
    expect(decide(fault, plan(fault, failed, defaultPolicy), failed, defaultPolicy).key).not.toBe("leave");
  });
});

describe("park", () => {
  test("comes last for a worker thread, first where its spine faults, never for the first thread", () => {
    const worker = { spine: 4, threads: 8, tid: 107 };
    expect(edits(report(evented, worker)).at(-1)).toBe("park");
    expect(edits(report(evented.slice(4), { ...worker, spine: 0 }))).toEqual(["park", "neutralise"]);
    expect(edits(report(evented, { spine: 4, threads: 8 }))).not.toContain("park");
    expect(edits(report(evented, { ...worker, threads: 1 }))).not.toContain("park");
  });
});
