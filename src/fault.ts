// SPDX-License-Identifier: Apache-2.0
/**
 * The nouns of the fault path: what is seen (FaultReport), proposed (Plan), decided (Decision), done and judged (Outcome).
 *
 * All but ThreadControl and ProgramView is plain data: it can be written down and read back, and a decision made from it
 * a second time is the same decision. The two interfaces are power over one program; they are never stored.
 * Vocabulary after VMSRS (Journal of Software 26(8), 2015) and "rescue points" (ASSURE, ASPLOS 2009).
 */

/** A virtual address in the address space of the guarded program. */
export type VirtualAddress = bigint & { readonly __brand: "VirtualAddress" };
/** Names one fault in one state directory; sorts by time. */
export type FaultId = string & { readonly __brand: "FaultId" };
/** Names one trial of one rung for one fault: `FAULT.N`, N counted from 1. */
export type TrialId = string & { readonly __brand: "TrialId" };

/** Reads a bigint as an address of the program. Free: the brand exists for the type checker only. */
export const address = (value: bigint): VirtualAddress => value as VirtualAddress;

export type Architecture = "x86_64" | "aarch64";

/** Linux names of the signals that end a program and that are faults of the program itself. */
export const fatalSignals = ["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"] as const;
export type FatalSignal = (typeof fatalSignals)[number];
/** Of a signal by its Linux name. */
export const isFatal = (signal: string): signal is FatalSignal => (fatalSignals as readonly string[]).includes(signal);
/** A fatal signal, or SIGSTOP where the supervisor itself stopped a thread that hangs. */
export type FaultSignal = FatalSignal | "SIGSTOP";

/**
 * The registers that a call-frame unwinder and a decoder need, by DWARF register number.
 * x86-64: 0..15 = rax rdx rcx rbx rsi rdi rbp rsp r8..r15, 16 = rip, and 49 = rflags where a decoder is to complete
 * instructions that set flags, 58 = fs.base. AArch64: 0..30 = x0..x30, 31 = sp, 32 = pc, 36 = TPIDR_EL0.
 * null: not known in this frame (a caller-saved register of an outer frame).
 */
export type Registers = readonly (bigint | null)[];

/** siginfo_t, the part that says who sent a signal and why. */
export type SignalCause = {
  /** Linux signal number. */
  readonly number: number;
  /** si_code: > 0 from the kernel, <= 0 from a process (SI_USER 0, SI_TKILL -6). */
  readonly code: number;
  /** si_addr for SEGV, BUS, ILL, FPE, TRAP; else null. */
  readonly faultAddress: VirtualAddress | null;
  /** si_pid where a process sent it; else null. */
  readonly senderPid: number | null;
};

/** One file mapped as code, as far as a report needs it. */
export type ModuleReference = {
  readonly path: string;
  /** GNU build-id in hex, or "" where the file has none. */
  readonly buildId: string;
  /** Load bias: address in memory minus address in the file. */
  readonly bias: VirtualAddress;
  /** True for code of a runtime that lives by fatal signals (a `.gopclntab` section is present). */
  readonly ownsSignals: boolean;
};

/**
 * How a frame was entered, read from the instruction before its return address.
 * `pointer`: by a call through a pointer, the program's own failure boundary. `library`: through a slot that is
 * read-only after relocation (PLT, GOT). `signal`: the kernel entered it to deliver a signal. `none`: no call is there.
 */
export type CallKind = "direct" | "pointer" | "library" | "signal" | "none";

/**
 * What the code at a return address does with the returned value.
 * `tested`: compares it before any other use. `used`: uses it untested. `ignored`: overwrites it or never reads it.
 * `never`: no code can follow there (end of function, padding, or the callee never returns). `unknown`: not decided.
 */
export type AfterCall = "tested" | "used" | "ignored" | "never" | "unknown";

export type SavedVector = { readonly register: number; readonly value: bigint };

/** One frame of the stopped thread. Frame 0 is where the thread stopped; frame n+1 called frame n. */
export type Frame = {
  /** Frame 0: the faulting instruction; else the return address inside this frame. */
  readonly pc: VirtualAddress;
  /** Canonical frame address: the stack pointer that the caller has once this frame has returned; null if not known. */
  readonly cfa: VirtualAddress | null;
  /** All registers as they are while this frame is the innermost one. */
  readonly registers: Registers;
  /**
   * AArch64: low halves of v8..v15 (DWARF 72..79) as this frame has them, where a frame inside it has saved them; the
   * others are still in their registers. Absent or empty elsewhere.
   */
  readonly vectors?: readonly SavedVector[];
  /** Index into FaultReport.modules, or null for code outside every file. */
  readonly module: number | null;
  /** pc minus the module's bias: the address in the file; 0 where module is null. */
  readonly offset: bigint;
  /** First byte of the function around pc in the file (from its FDE), or null. */
  readonly functionStart: bigint | null;
  readonly symbol: string | null;
  /** How this frame was entered from the next outer one, and what that one does with the value. Outermost: "none". */
  readonly enteredBy: CallKind;
  readonly afterCall: AfterCall;
  /** What that one's test most likely takes for a failure; null or absent where it tests nothing or does not tell. */
  readonly failureValue?: bigint | null;
  /** True where that test leaves no doubt that the value is a failure: a sign, an order, the -1 of the system's calls. */
  readonly failsPlainly?: boolean;
  /** True where the caller makes this call again and again: giving it up ends one turn of a loop. Spine frames only. */
  readonly inLoop?: boolean;
  /** The value with which the caller, a spine frame, goes on with its loop, where another ends it; else null or absent. */
  readonly loopValue?: bigint | null;
  /** How this frame was found. `signal`: restored from a signal frame. */
  readonly foundBy: "stop" | "cfi" | "framePointer" | "returnAddress" | "signal";
};

/** The faulting instruction as far as it can be completed by hand (rung 4). */
export type FaultingInstruction = {
  readonly bytes: string;
  readonly lengthBytes: number;
  /** What leaving it out means; null where it cannot be left out (a call, a jump, an unknown instruction). */
  readonly skip: InstructionSkip | null;
};
/**
 * The instruction is completed as if all memory it reads were zero and all memory it writes were lost.
 * `zero`: these registers (DWARF numbers) become 0. `drop`: a store is dropped, nothing else changes.
 * `set`: these registers take these values: flags, partial registers, advanced pointers, as computed at the fault.
 */
export type InstructionSkip =
  | { readonly kind: "zero"; readonly registers: readonly number[] }
  | { readonly kind: "drop" }
  | { readonly kind: "set"; readonly writes: readonly (readonly [register: number, value: bigint])[] };

/** Where a fault happened, stable across address randomisation, restarts and boxes that run the same build. */
export type Site = {
  /** `buildId+offset` of the fault (of the caller of the chain that never returns, for an abort). */
  readonly fault: string;
  /** The same for the nearest interface frame, "" where there is none. */
  readonly boundary: string;
};

/** The client connection a fault was for. */
export type Session = {
  readonly fd: number;
  /** Peer address as `ip:port`, `[ip]:port` or `unix:path`. */
  readonly peer: string;
  /** 0..1. */
  readonly confidence: number;
};

/** How often a number occurs in memory that a thread's work reaches: by itself, one pointer away, two pointers away. */
export type Reach = { readonly direct: number; readonly near: number; readonly far: number };

/** What speaks for and against one client connection at the moment of a fault. */
export type SessionEvidence = {
  readonly fd: number;
  readonly peer: string;
  /** Bytes that have arrived and that the program has not read. */
  readonly unreadBytes: number;
  /** Age of the last received and the last sent data, ms; null where the kernel keeps none (unix sockets). */
  readonly lastReceivedMs: number | null;
  readonly lastSentMs: number | null;
  /** True where data was received and none was ever sent. */
  readonly neverAnswered: boolean;
  /** TCP segments with data received, minus those sent; null or absent where the kernel does not count them. */
  readonly balance?: number | null;
  /** True where it is another thread's: only its multiplexer watches it, or it waits for work on it alone. */
  readonly elsewhere?: boolean;
  /** True where the thread that faulted waits for work on this connection alone. */
  readonly own?: boolean;
  /** Occurrences of the descriptor number in what the faulting request reaches. */
  readonly reach: Reach;
  /** Share of all 32-bit words that hold this number by chance: in stack that is not the request's, and near its objects. */
  readonly commonness: { readonly direct: number; readonly near: number };
};

/** Everything a decision may look at, and all that `replay` needs. */
export type FaultReport = {
  readonly id: FaultId;
  readonly workload: string;
  readonly pid: number;
  readonly tid: number;
  readonly threadName: string;
  /** Threads that the program has, this one among them. */
  readonly threads: number;
  /** Threads that the program itself has ended on its way to an abort; absent where not looked for. */
  readonly threadsLost?: number;
  readonly architecture: Architecture;
  readonly signal: FaultSignal;
  readonly cause: SignalCause | null;
  /** Wall clock, ms since 1970. */
  readonly atMs: number;
  readonly registers: Registers;
  readonly modules: readonly ModuleReference[];
  readonly frames: readonly Frame[];
  /** Index of the innermost spine frame in `frames`; null where the spine of this thread is not known. */
  readonly spine: number | null;
  /** True where unwinding ended at the outermost frame, false where it lost its way or met the limit. */
  readonly complete: boolean;
  readonly instruction: FaultingInstruction | null;
  readonly site: Site;
  /** What the program counter of the stop points to. `anonymous`: executable memory of no file (made at run time). */
  readonly codeAt: "file" | "anonymous" | "data" | "unmapped";
  /** True where the program has a handler of its own for this signal. */
  readonly caught: boolean;
  /** True once any thread of the program was seen waiting for work: before that nobody is served. */
  readonly serving: boolean;
  /** True where the faulting frames are inside a memory allocator. */
  readonly inAllocator: boolean;
  /** True where the stack pointer is outside, or within one page of the end of, the thread's stack. */
  readonly stackExhausted: boolean;
  /** The client connections of the program that may be meant, in no order; empty where it has none or they are not known. */
  readonly sessions: readonly SessionEvidence[];
  /**
   * Address of the C library's `exit` in a process that serves the one connection it was given and takes in no other: to
   * leave is what it does with every client. null or absent: it is no such process.
   */
  readonly leaveAt?: VirtualAddress | null;
  /** Address of the thread's restartable-sequence pointer where that is what the kernel stumbled over; else null. */
  readonly damagedSequence: VirtualAddress | null;
  /** True where other processes may hold the program's connections too. */
  readonly connectionsShared: boolean;
  /** The program's multiplexers (epoll), where somebody else holds, or is about to hold, its connections; null: not looked up. */
  readonly multiplexers: readonly number[] | null;
  /** Raw stack from the stack pointer upwards, hex. */
  readonly stack: { readonly from: VirtualAddress; readonly bytes: string };
  /** The fatal signal that this thread was given before and that its handler may be working on; null where there is none. */
  readonly deliveredBefore: string | null;
  /** Times the thread blocked by itself since it was last resumed from a fault; null where not known. */
  readonly blockedSince: number | null;
};

/** The rungs of the ladder, mildest first. The wire names of the `--json` contract. */
export const rungs = [
  "abandon",
  "quarantine",
  "inward",
  "neutralise",
  "park",
  "restart",
  "restore",
  "coldboot",
] as const;
export type Rung = (typeof rungs)[number];

/** A frame to abandon and the value its caller gets: by it a fault becomes an ordinary error. */
export type RescuePoint = {
  /** Index into FaultReport.frames of the frame that is abandoned. */
  readonly frame: number;
  readonly returnValue: bigint;
};

/** What to do with the stopped thread. */
export type Edit =
  | { readonly kind: "abandon"; readonly rung: "abandon" | "inward"; readonly point: RescuePoint }
  | { readonly kind: "neutralise"; readonly skip: InstructionSkip; readonly lengthBytes: number }
  /** Park the thread for ever, with all signals blocked. */
  | { readonly kind: "park" }
  /** Have the process leave by `exit(1)`, with all that it does on its way out: its one connection is what it was for. */
  | { readonly kind: "leave"; readonly at: VirtualAddress }
  /** Clear the thread's damaged restartable-sequence pointer and run the same instruction again: it was innocent. */
  | { readonly kind: "mend"; readonly at: VirtualAddress }
  /** Let the signal be delivered, as if nobody watched. */
  | { readonly kind: "deliver"; readonly reason: DeliverReason };
export type DeliverReason =
  | "sentByProcess"
  | "runtimeOwnsSignal"
  | "notServing"
  | "raisedByHandler"
  | "exhausted"
  | "disabled";

/** All that could be done for a report, best first. Pure function of report, history and policy. */
export type Plan =
  | { readonly kind: "edits"; readonly edits: readonly Edit[]; readonly notes: readonly string[] }
  | { readonly kind: "deliver"; readonly reason: DeliverReason; readonly notes: readonly string[] };

/** The one thing that is done now, and why. */
export type Decision = {
  readonly trial: TrialId;
  readonly edit: Edit;
  /**
   * The edit in a form that outlives the process: `abandon BUILDID+OFFSET=VALUE` (the return address of the abandoned
   * frame), `inward …` likewise, `neutralise BUILDID+OFFSET`, `mend`, `park`, `leave`, `deliver REASON`.
   */
  readonly key: string;
  /** The connection that is blamed; null where nobody is. */
  readonly session: Session | null;
  /** Whether that connection is cut in the same stop (rung 2). */
  readonly cut: boolean;
  readonly reason: string;
  /** The trials that this decision looked at: with the report they make it again, in a replay. */
  readonly past: readonly PastTrial[];
  /** Likewise, where a budget was spent. */
  readonly spent?: Spent;
};

/** Acts within the window of the budget, before this fault: at its site, and in the whole program. */
export type Spent = { readonly site: number; readonly program: number };

export type Verdict = "clean" | "degraded" | "failed";

/** What was really done, as far as it can differ from what was decided. */
export type Applied = {
  readonly rung: Rung;
  /** Why the blamed session could not be cut; null where it was, or was not to be. */
  readonly cutFailure: string | null;
};

/** The judgement of one trial, after probation. */
export type Outcome = {
  readonly fault: FaultId;
  readonly trial: TrialId;
  readonly rung: Rung;
  readonly verdict: Verdict;
  /** Why this verdict, in words. */
  readonly evidence: readonly string[];
  /** Stop of the thread until its resume, µs, by our clock. */
  readonly stopUs: number;
  /** Resume until the verdict, ms. */
  readonly probationMs: number;
  readonly session: Session | null;
};

/** One past trial as `plan` and `decide` see it: kept in memory, fed by the journal. */
export type PastTrial = {
  readonly trial: TrialId;
  readonly site: Site;
  readonly tid: number;
  /** Decision.key: what was done, comparable across faults, restarts and boxes. */
  readonly key: string;
  readonly rung: Rung;
  readonly atMs: number;
  /** null while on probation. */
  readonly verdict: Verdict | null;
  readonly session: Session | null;
  /** True where that session was connected already when its site faulted first: it is no client that comes to kill. */
  readonly veteran: boolean;
  /** True where the fault came of what an earlier act at another site left behind. */
  readonly consequence?: boolean;
  /** Failed only in so far as the supervisor ended before the verdict. */
  readonly interrupted?: boolean;
  /** What the thread was at, as long as it may be at it still: equal where the very same work is tried again. */
  readonly work?: string;
  /** The box that learned it, where that was not this one: then it speaks for the order of the edits and for nothing else. */
  readonly learnedBy?: string;
};

/** System calls that a stopped thread may be made to run. */
export type SystemCall =
  | "timerfd_create"
  | "dup3"
  | "close"
  | "epoll_ctl"
  | "shutdown"
  | "rt_sigprocmask"
  | "sigaltstack"
  | "ppoll";

/** The right to read, change and resume one stopped thread. Every call but resume throws `GdbError` once it is resumed. */
export interface ThreadControl {
  readonly pid: number;
  readonly tid: number;
  /** Sets registers by DWARF number and leaves all others, vector state included, as they are. */
  writeRegisters(changes: ReadonlyMap<number, bigint>): Promise<void>;
  /**
   * Makes the thread run one system call and gives the kernel's answer, negative for an error. The registers are then
   * those of the call: write all that matter before `resume`.
   */
  systemCall(name: SystemCall, words: readonly bigint[]): Promise<bigint>;
  /** Resumes the thread inside a system call. Only for one that never returns: what comes after it is anybody's code. */
  resumeInto(name: SystemCall, words: readonly bigint[]): Promise<void>;
  /** Writes memory of the program. @throws GdbError "gdb.refused" where it cannot be written */
  writeMemory(at: VirtualAddress, bytes: Uint8Array): Promise<void>;
  /** Resumes the thread without a signal. */
  resume(): Promise<void>;
  /** Resumes the thread and delivers the signal it stopped for. */
  deliver(): Promise<void>;
}

/** Read access to a guarded program that needs no stop. */
export interface ProgramView {
  readonly pid: number;
  readonly architecture: Architecture;
  /** Reads up to `lengthBytes` from `from`; shorter where the mapping ends, empty where nothing is mapped. */
  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array;
}
