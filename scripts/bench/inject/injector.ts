// SPDX-License-Identifier: Apache-2.0
/**
 * Makes a running thread of a program fault at a chosen place, from the gdbserver connection of its supervisor.
 *
 * A privileged one-byte instruction is planted at the place, so the thread that comes by stops for SIGSEGV right there.
 * The byte is put back and the thread is given what the fault needs: a register, a siginfo, a program counter. Then the
 * supervisor is told of that one stop, and of no other. So a fault costs the thread one stop, as a real one does, and the
 * supervisor finds registers, code, stack and siginfo as if the code had faulted by itself.
 * x86-64 only. Limit: `abort` and `natural` faults run on from the planted stop, which the supervisor does not see.
 * Source: Intel SDM volume 2, HLT; siginfo_t of asm-generic/siginfo.h.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { parseMaps } from "#binary/maps.ts";
import { HoldfastError } from "#errors.ts";
import { escapeBinary } from "#monitor/gdb/frame.ts";
import type { Act, Order, Report } from "./orders.ts";

const haltInstruction = 0xf4;
const gdbSegv = 11;
const segvMapError = 1;
const siKernel = 128;
const siginfoBytes = 128;
const wordBytes = 8n;
const [rsp, rip] = [7, 16];
/** Places of the general registers in a `g` reply, by DWARF number (GDB's amd64 core feature). */
const slotOf = [0, 3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] as const;

export type Wire = {
  ask(requests: readonly string[]): Promise<string[]>;
  offer(reply: string): void;
};

type Injection = Extract<Order, { order: "inject" }>;
type Stop = { readonly reply: string; readonly signal: number; readonly thread: string; readonly tid: number };

export class Injector {
  #memory: { readonly pid: number; readonly file: number } | null = null;
  /** Places that hold the planted byte, with the byte that belongs there. */
  readonly #planted = new Map<number, number>();
  /** Places of this order: a thread may have met the planted byte before it was taken away. */
  readonly #places = new Set<number>();
  #injection: Injection | null = null;
  #injected = 0;
  #busy = false;
  #victim: number | null = null;

  constructor(
    private readonly wire: Wire,
    private readonly tell: (report: Report) => void,
  ) {}

  obey(order: Order): void {
    this.#clear();
    if (order.order === "clear") {
      this.tell({ report: "cleared" });
      return;
    }
    this.#openMemory(order.pid);
    this.#injection = order.order === "inject" ? order : null;
    this.#injected = 0;
    this.#victim = null;
    for (const place of order.order === "inject" ? [order.place] : order.places) {
      this.#places.add(place);
      this.#plant(place);
    }
  }

  /** A stop that the stub has told: ours, or the client's. */
  stopped(reply: string): void {
    const stop = readStop(reply);
    const place = stop === null ? null : placeOf(reply);
    const ours = stop?.signal === gdbSegv && place !== null && this.#places.has(place);
    if (!ours || this.#victim === stop.tid) {
      // The natural fault of our victim, or nothing of ours.
      if (stop?.tid === this.#victim) this.#faulted(stop.tid);
      this.wire.offer(reply);
      return;
    }
    void this.#take(stop, place).catch((error: unknown) => {
      this.tell({ report: "broken", why: error instanceof Error ? error.message : String(error) });
      this.wire.offer(reply);
    });
  }

  /** A request of the client: where it lets the victim go on, a sticky fault waits at the place again. */
  asked(request: string): void {
    const injection = this.#injection;
    if (injection === null || this.#injected === 0 || this.#injected >= injection.times || this.#busy) return;
    if (/^vCont;c(:|$)/.test(request)) this.#plant(injection.place);
  }

  close(): void {
    this.#clear();
    if (this.#memory !== null) closeSync(this.#memory.file);
    this.#memory = null;
  }

  async #take(stop: Stop, place: number): Promise<void> {
    this.#unplant(place);
    const injection = this.#injection;
    if (injection === null) {
      this.tell({ report: "passed", place });
      await this.#resume(stop);
    } else if (this.#busy || this.#injected >= injection.times) await this.#resume(stop);
    else {
      this.#busy = true;
      try {
        await this.#inject(stop, injection);
      } finally {
        this.#busy = false;
      }
    }
  }

  async #inject(stop: Stop, { act, natural }: Injection): Promise<void> {
    const [, raw = ""] = await this.wire.ask([`Hg${stop.thread}`, "g"]);
    const changes = new Map<number, bigint>();
    const read = (register: number): bigint => readRegister(raw, register);
    if (act.kind === "abort") {
      const sp = read(rsp) - wordBytes;
      this.#writeWord(Number(sp), BigInt(act.returnTo));
      changes.set(rsp, sp).set(rip, BigInt(act.abort));
      this.#victim = stop.tid;
      await this.#change(stop, raw, changes);
      await this.#resume(stop);
      return;
    }
    const at = act.kind === "nullCall" ? 0n : operandOf(act, read);
    if (!isFault(at, this.#memory!.pid)) {
      this.tell({ report: "spared", why: `0x${at.toString(16)} is mapped` });
      await this.#resume(stop);
      return;
    }
    if (act.kind === "nullCall") changes.set(rip, 0n);
    else changes.set(act.register, BigInt.asUintN(64, act.value));
    await this.#change(stop, raw, changes);
    if (natural) {
      this.#victim = stop.tid;
      await this.#resume(stop);
      return;
    }
    await this.wire.ask([`Hg${stop.thread}`, siginfoRequest(at)]);
    this.#faulted(stop.tid);
    this.wire.offer(patchReply(stop.reply, changes));
  }

  #faulted(tid: number): void {
    this.#victim = null;
    this.#injected += 1;
    this.tell({ report: "injected", tid, place: this.#injection?.place ?? 0, number: this.#injected });
  }

  async #change(stop: Stop, raw: string, changes: ReadonlyMap<number, bigint>): Promise<void> {
    let text = raw;
    for (const [register, value] of changes) text = patchRegister(text, register, value);
    await this.wire.ask([`Hg${stop.thread}`, `G${text}`]);
  }

  async #resume({ thread }: Stop): Promise<void> {
    await this.wire.ask([`vCont;c:${thread}`]);
  }

  #plant(place: number): void {
    if (this.#planted.has(place)) return;
    const byte = Buffer.alloc(1);
    readSync(this.#memory!.file, byte, 0, 1, place);
    this.#planted.set(place, byte[0]!);
    writeSync(this.#memory!.file, Buffer.from([haltInstruction]), 0, 1, place);
  }

  #unplant(place: number): void {
    const byte = this.#planted.get(place);
    if (byte === undefined) return;
    this.#planted.delete(place);
    writeSync(this.#memory!.file, Buffer.from([byte]), 0, 1, place);
  }

  /** The places stay known: a thread that met the byte a moment ago may still be on its way to us. */
  #clear(): void {
    this.#injection = null;
    for (const place of [...this.#planted.keys()]) {
      try {
        this.#unplant(place);
      } catch {
        // The program has ended, and its code with it.
        this.#planted.clear();
      }
    }
  }

  #openMemory(pid: number): void {
    if (this.#memory?.pid === pid) return;
    if (this.#memory !== null) closeSync(this.#memory.file);
    this.#places.clear();
    this.#memory = { pid, file: openSync(`/proc/${pid}/mem`, "r+") };
  }

  #writeWord(at: number, value: bigint): void {
    const bytes = Buffer.alloc(Number(wordBytes));
    bytes.writeBigUInt64LE(value);
    writeSync(this.#memory!.file, bytes, 0, bytes.length, at);
  }
}

function readStop(reply: string): Stop | null {
  const match = /^T([0-9a-f]{2}).*\bthread:(p[0-9a-f]+\.([0-9a-f]+));/.exec(reply);
  if (match === null) return null;
  return { reply, signal: Number.parseInt(match[1]!, 16), thread: match[2]!, tid: Number.parseInt(match[3]!, 16) };
}

/** The program counter among the registers that a stop reply brings along. */
function placeOf(reply: string): number | null {
  const match = /[;0-9a-f]10:([0-9a-f]{16});/.exec(reply);
  return match === null ? null : Number(Buffer.from(match[1]!, "hex").readBigUInt64LE());
}

function patchReply(reply: string, changes: ReadonlyMap<number, bigint>): string {
  let text = reply;
  for (const [register, value] of changes) {
    const name = slotOf[register]!.toString(16).padStart(2, "0");
    text = text.replace(new RegExp(`([;0-9a-f])${name}:[0-9a-f]{16};`), `$1${name}:${wordText(value)};`);
  }
  return text;
}

function readRegister(raw: string, register: number): bigint {
  const from = slotOf[register]! * 16;
  return Buffer.from(raw.slice(from, from + 16), "hex").readBigUInt64LE();
}

function patchRegister(raw: string, register: number, value: bigint): string {
  const from = slotOf[register]! * 16;
  return raw.slice(0, from) + wordText(value) + raw.slice(from + 16);
}

function wordText(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString("hex");
}

type MemoryAct = Extract<Act, { kind: "nullBase" | "wildBase" }>;

function operandOf({ value, index, displacement }: MemoryAct, read: (register: number) => bigint): bigint {
  const scaled = index === null ? 0n : read(index.register) * BigInt(index.scale);
  return BigInt.asUintN(64, value + scaled + displacement);
}

const isCanonical = (at: bigint): boolean => at >> 47n === 0n || at >> 47n === 0x1ffffn;

/** Whether an access there ends the program: nothing is mapped. */
function isFault(at: bigint, pid: number): boolean {
  if (at >> 47n !== 0n) return true;
  try {
    return !parseMaps(readFileSync(`/proc/${pid}/maps`, "utf8")).some(({ start, end }) => at >= start && at < end);
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    return false; // The program has ended meanwhile.
  }
}

/** What the kernel says of an access to `at`; of one to no address at all it says only that it was the kernel's word. */
function siginfoRequest(at: bigint): string {
  const bytes = Buffer.alloc(siginfoBytes);
  bytes.writeInt32LE(gdbSegv, 0);
  bytes.writeInt32LE(isCanonical(at) ? segvMapError : siKernel, 8);
  bytes.writeBigUInt64LE(isCanonical(at) ? at : 0n, 16);
  return `qXfer:siginfo:write::0:${escapeBinary(bytes.toString("latin1"))}`;
}
