// SPDX-License-Identifier: Apache-2.0
/**
 * An AArch64 program on any machine, under the engine: QEMU's user emulation runs it and its debug stub stops it. Gets an
 * executable and its words; gives a report of each fault and the right to its one stopped thread.
 *
 * The engine is the real one: decoder, unwinder, plan, system calls run by the thread. The stub is not gdbserver: it stops
 * all threads at once, so this is for programs of one thread. The emulator maps memory and descriptors one to one, so
 * both are read of its own process. Source: QEMU 7.2, gdbstub.c, linux-user.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { unwindBlocked } from "#binary/unwind.ts";
import { toHex } from "#bytes.ts";
import { deadline, systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import {
  address,
  type FaultId,
  type FaultReport,
  type FaultSignal,
  type Registers,
  type ThreadControl,
} from "#fault.ts";
import { silentLog } from "#log.ts";
import { CallSites } from "#monitor/callSites.ts";
import { CodeFacts } from "#monitor/codeFacts.ts";
import { decodeFault, spineFrames } from "#monitor/faultDecoder.ts";
import { encodePacket, FrameDecoder } from "#monitor/gdb/frame.ts";
import { parseHexBytes, parseStopReply, parseXfer } from "#monitor/gdb/messages.ts";
import { patchRegisters, type RegisterLayout, readDescription, readRegisters } from "#monitor/gdb/registers.ts";
import { openSocket, type Transport } from "#monitor/gdb/transport.ts";
import { findSystemCallInstruction, runSystemCall, systemCallRegisters } from "#monitor/injectedCalls.ts";
import type { BlockedThread } from "#monitor/processes.ts";
import { NativeProgramView } from "#monitor/programView.ts";
import { RestartableSequences } from "#monitor/restartableSequences.ts";
import { Sessions } from "#monitor/sessions.ts";
import { Spines } from "#monitor/spines.ts";
import { emulatedCode } from "#scripts/bench/gdbSampler.ts";
import { siteOf } from "#suppression/site.ts";

export const crossLibraries = "/usr/aarch64-linux-gnu";

const answerMsMax = 20_000;
const connectTries = 2_000;
const spineFramesMax = 64;
const spineTries = 100;
const spinePauseMs = 5;
const wholeRead = "800";
const systemCallRegister = 8;
const instructionBytes = 4n;

export class EmulatedProgram implements AsyncDisposable {
  readonly #decoder = new FrameDecoder();
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #packets: string[] = [];
  readonly #instructions = instructionsOf("aarch64");
  readonly #callSites = new CallSites(this.#instructions, new CodeFacts());
  readonly #view: NativeProgramView;
  readonly #sessions: Sessions;
  #map: CodeMap | null = null;
  #spines: Spines | null = null;
  #layout: RegisterLayout | null = null;
  #faults = 0;

  private constructor(
    private readonly emulator: Bun.Subprocess,
    private readonly transport: Transport,
    private readonly executable: string,
  ) {
    this.#chunks = transport.incoming[Symbol.asyncIterator]();
    this.#view = new NativeProgramView(emulator.pid, "aarch64");
    this.#sessions = new Sessions(this.#view, silentLog, () => ({ own: null, others: [] }));
  }

  /** Starts it, stopped at its first instruction. */
  static async start(executable: string, words: readonly string[], directory: string): Promise<EmulatedProgram> {
    const stub = join(directory, "stub");
    const emulator = Bun.spawn(["qemu-aarch64-static", "-L", crossLibraries, "-g", stub, executable, ...words], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    for (let tries = 0; ; tries += 1) {
      try {
        const program = new EmulatedProgram(emulator, await openSocket(stub), executable);
        await program.#describe();
        return program;
      } catch (error) {
        if (tries >= connectTries) throw error;
        await systemClock.sleep(1);
      }
    }
  }

  get pid(): number {
    return this.emulator.pid;
  }

  /** Lets it run; nothing is heard of it until the next stop. */
  run(): void {
    this.#send("c");
  }

  /** Stops the program until it is found waiting for work, learns that this is its spine, and lets it run on. */
  async learnSpine(): Promise<void> {
    this.#map = await emulatedCode(readFileSync(`/proc/${this.pid}/maps`, "utf8"), this.executable, crossLibraries);
    const map = this.#map;
    const spines = new Spines("aarch64", ({ pc, sp }) => {
      const read = this.#view.readMemory.bind(this.#view);
      return spineFrames(unwindBlocked(pc, sp, read, map, spineFramesMax).frames, map);
    });
    this.#spines = spines;
    for (let tries = 0; spines.threads === 0 && tries < spineTries; tries += 1) {
      await systemClock.sleep(spinePauseMs);
      // The stub does not listen while the program runs: a signal stops it, which is not passed on.
      this.emulator.kill("SIGINT");
      await this.#receive();
      spines.observe(this.pid, waitOf(await this.#registers()));
      this.run();
    }
  }

  /** The report of its next fault, and the right to its thread. @throws ProgramError where it ended instead */
  async nextFault(): Promise<{ report: FaultReport; control: ThreadControl }> {
    const reply = parseStopReply(await this.#receive());
    if (reply.kind !== "stopped") throw new ProgramError("program.gone", `the program ended: ${JSON.stringify(reply)}`);
    const [map, spines] = [this.#map, this.#spines];
    if (map === null || spines === null) throw new ProgramError("program.gone", `${reply.signal} before it served`);
    const registers = await this.#registers();
    this.#faults += 1;
    const facts = {
      id: `emulated-${this.#faults}` as FaultId,
      atMs: systemClock.wallMs(),
      tid: this.pid,
      threadName: "emulated",
      threads: 1,
      signal: reply.signal as FaultSignal,
      registers,
      cause: null,
      caught: false,
      deliveredBefore: null,
      blockedSince: null,
      loop: null,
      connections: {
        sockets: this.#sessions.sockets().map((socket) => ({ ...socket, elsewhere: false, own: false })),
        shared: false,
        multiplexers: null,
      },
    };
    const report = decodeFault(facts, {
      workload: "emulated",
      view: this.#view,
      map,
      instructions: this.#instructions,
      callSites: this.#callSites,
      spines,
      sessions: this.#sessions,
      sequences: new RestartableSequences(this.#view),
    });
    const site = siteOf(report.frames, report.modules, report.spine, report.signal);
    return { report: { ...report, site }, control: this.#control(map) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.emulator.kill("SIGKILL");
    await this.emulator.exited;
    await this.transport[Symbol.asyncDispose]();
    this.#sessions[Symbol.dispose]();
    this.#view[Symbol.dispose]();
  }

  #control(map: CodeMap): ThreadControl {
    const instruction = findSystemCallInstruction(map) ?? 0n;
    const step = async (changes: ReadonlyMap<number, bigint>): Promise<{ registers: Registers; signal: string }> => {
      await this.#writeRegisters(changes);
      // A single step over a system call takes one instruction more in this emulator.
      const after = `0,${(instruction + instructionBytes).toString(16)},${instructionBytes}`;
      await this.#ask(`Z${after}`);
      const reply = parseStopReply(await this.#ask("c"));
      await this.#ask(`z${after}`);
      return { registers: await this.#registers(), signal: reply.kind === "stopped" ? reply.signal : reply.kind };
    };
    return {
      pid: this.pid,
      tid: this.pid,
      writeRegisters: (changes) => this.#writeRegisters(changes),
      writeMemory: async (at, bytes) => {
        await this.#ask(`M${at.toString(16)},${bytes.length.toString(16)}:${toHex(bytes)}`);
      },
      systemCall: (name, words) => runSystemCall(name, words, "aarch64", instruction, step),
      resumeInto: async (name, words) => {
        await this.#writeRegisters(systemCallRegisters(name, words, "aarch64", instruction));
        this.run();
      },
      resume: async () => this.run(),
      deliver: async () => {
        throw new ProgramError("program.unsupported", "this peer delivers no signals");
      },
    };
  }

  async #registers(): Promise<Registers> {
    return readRegisters(this.#layout!, parseHexBytes(await this.#ask("g")));
  }

  async #writeRegisters(changes: ReadonlyMap<number, bigint>): Promise<void> {
    const raw = parseHexBytes(await this.#ask("g"));
    await this.#ask(`G${toHex(patchRegisters(this.#layout!, raw, changes))}`);
  }

  async #describe(): Promise<void> {
    await this.#ask("qSupported:multiprocess+");
    const documents = new Map<string, string>();
    let description = readDescription(documents);
    while (description.kind === "missing") {
      documents.set(description.document, await this.#whole(`qXfer:features:read:${description.document}`));
      description = readDescription(documents);
    }
    this.#layout = description.layout;
  }

  async #whole(object: string): Promise<string> {
    for (let text = ""; ; ) {
      const piece = parseXfer(await this.#ask(`${object}:${text.length.toString(16)},${wholeRead}`));
      text += piece.binary;
      if (piece.last) return text;
    }
  }

  #send(packet: string): void {
    this.transport.write(`+${encodePacket(packet)}`);
  }

  #ask(packet: string): Promise<string> {
    this.#send(packet);
    return this.#receive();
  }

  async #receive(): Promise<string> {
    using limit = deadline(answerMsMax, () => new ProgramError("program.gone", "the emulator's stub says nothing"));
    const late = new Promise<never>((_, reject) => {
      limit.signal.addEventListener("abort", () => reject(limit.signal.reason), { once: true });
    });
    for (;;) {
      const packet = this.#packets.shift();
      if (packet !== undefined) return packet;
      const { done, value } = await Promise.race([this.#chunks.next(), late]);
      if (done === true) throw new ProgramError("program.gone", "the emulator has ended");
      for (const frame of this.#decoder.push(value)) if (frame.kind === "packet") this.#packets.push(frame.text);
    }
  }
}

/** A thread that a signal has stopped in a system call, as the kernel would show it. */
function waitOf(registers: Registers): BlockedThread {
  const { pc, sp } = callingConvention.aarch64;
  return {
    syscall: Number(registers[systemCallRegister]),
    arguments: registers.slice(0, 6).map((value) => value ?? 0n),
    sp: address(registers[sp]!),
    pc: address(registers[pc]!),
  };
}
