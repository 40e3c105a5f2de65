// SPDX-License-Identifier: Apache-2.0
/**
 * A stub that speaks the real bytes of the GDB remote protocol, with a made-up program behind it.
 *
 * It behaves as gdbserver 13 does in non-stop mode (tests/path/gdbContract.test.ts runs one scenario on both): acknowledged
 * until QStartNoAckMode, run lengths in every reply, one stop told until `vStopped`. `corrupt` may change or drop what it
 * sends. Limits: one process, one connection.
 */
import { encodeNotification, encodePacket, escapeBinary, FrameDecoder } from "#monitor/gdb/frame.ts";
import { type RegisterLayout, readDescription } from "#monitor/gdb/registers.ts";
import { linuxSignalNumber } from "#monitor/gdb/signals.ts";
import type { Transport } from "#monitor/gdb/transport.ts";

export type FakeThread = { raw: Uint8Array<ArrayBuffer>; stop: FakeStop | null; told: boolean };
export type FakeStop = { readonly gdbSignal: number; readonly cause: Uint8Array | null; readonly exec?: string };

/** What the stub is about to send; null sends nothing. */
export type Corrupt = (bytes: string, reply: number) => string | null;

export class FakeStub {
  readonly layout: RegisterLayout;
  readonly threads = new Map<number, FakeThread>();
  readonly memory = new Map<bigint, number>();
  readonly files = new Map<string, string>();
  /** Files that open but cannot be read. */
  readonly unreadable = new Set<string>();
  readonly links = new Map<string, string>();
  /** Packets as they came, in order. */
  readonly received: string[] = [];
  /** How each thread went on: `c` or `C` and a number. */
  readonly resumed: { tid: number; action: string }[] = [];
  attached = false;
  acknowledging = true;
  corrupt: Corrupt = (bytes) => bytes;
  /** Overrides the reply to a packet; null leaves it as it is. */
  answer: (packet: string) => string | null = () => null;
  #decoder = new FrameDecoder();
  #write: (bytes: string) => void = () => {};
  #end: () => void = () => {};
  #selected = 0;
  #queue: string[] = [];
  #replies = 0;
  #openFile: string | null = null;

  constructor(
    readonly pid: number,
    tids: readonly number[],
    readonly documents: ReadonlyMap<string, string>,
  ) {
    const description = readDescription(documents);
    if (description.kind === "missing") throw new RangeError(`the fake needs ${description.document}`);
    this.layout = description.layout;
    for (const tid of tids) this.addThread(tid);
    this.files.set(`/proc/${pid}/status`, "Name:\tfake\nState:\tS (sleeping)\nTracerPid:\t0\nUid:\t0\t0\t0\t0\n");
    this.files.set("/proc/self/status", "Name:\tgdbserver\nState:\tR (running)\nTracerPid:\t0\nUid:\t0\t0\t0\t0\n");
  }

  addThread(tid: number): void {
    const raw = new Uint8Array(this.layout.totalBytes);
    const view = new DataView(raw.buffer);
    view.setBigUint64(this.layout.general[this.layout.pc]!.offset, 0x5555_0000_1000n, true);
    view.setBigUint64(this.layout.general[this.layout.sp]!.offset, 0x7fff_0000_0000n + BigInt(tid), true);
    this.threads.set(tid, { raw, stop: null, told: false });
  }

  /** A new connection; the state of the stub stays, as it does when a client dies. */
  connect(): Transport {
    const chunks: Uint8Array[] = [];
    let wake = Promise.withResolvers<void>();
    let ended = false;
    this.#decoder = new FrameDecoder();
    this.#write = (bytes) => {
      chunks.push(Buffer.from(bytes, "latin1"));
      wake.resolve();
    };
    this.#end = () => {
      ended = true;
      wake.resolve();
    };
    const read = async function* (): AsyncGenerator<Uint8Array> {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk !== undefined) yield chunk;
        else if (ended) return;
        else {
          wake = Promise.withResolvers<void>();
          await wake.promise;
        }
      }
    };
    return {
      peer: "fake",
      write: (text) => this.receive(Buffer.from(text, "latin1")),
      incoming: read(),
      [Symbol.asyncDispose]: async () => this.#end(),
    };
  }

  /** Ends the connection from the stub's side. */
  hangUp(): void {
    this.#write = () => {};
    this.#end();
  }

  /** For a server of its own: where bytes go. */
  serve(write: (bytes: string) => void, end: () => void): void {
    this.#write = write;
    this.#end = end;
  }

  receive(chunk: Uint8Array): void {
    for (const frame of this.#decoder.push(chunk)) {
      if (frame.kind !== "packet") continue;
      this.received.push(frame.text);
      if (this.acknowledging) this.#write("+");
      const reply = this.answer(frame.text) ?? this.#reply(frame.text);
      this.#send(encodePacket(runLengths(reply)));
      if (frame.text.startsWith("QStartNoAckMode")) this.acknowledging = false;
    }
  }

  /** The thread stops, by itself or because it was asked to. */
  stop(tid: number, stop: FakeStop): void {
    const thread = this.threads.get(tid)!;
    thread.stop = stop;
    thread.told = false;
    this.#queue.push(this.#stopText(tid, stop));
    if (this.#queue.length === 1) this.#send(encodeNotification(`Stop:${runLengths(this.#queue[0]!)}`));
  }

  /** A fault of the kind the kernel raises. */
  fault(tid: number, signal: string, gdbSignal: number, at: bigint): void {
    this.stop(tid, { gdbSignal, cause: siginfo(linuxSignalNumber(signal)!, 1, at) });
  }

  /** The whole process ends. */
  exit(reply: string): void {
    this.threads.clear();
    this.#queue.push(`${reply};process:${this.pid.toString(16)}`);
    if (this.#queue.length === 1) this.#send(encodeNotification(`Stop:${this.#queue[0]!}`));
  }

  #send(bytes: string): void {
    this.#replies += 1;
    const sent = this.corrupt(bytes, this.#replies);
    if (sent !== null) this.#write(sent);
  }

  #stopText(tid: number, { gdbSignal, exec }: FakeStop): string {
    const thread = `thread:p${this.pid.toString(16)}.${tid.toString(16)};core:0;`;
    const path = exec === undefined ? "" : `exec:${Buffer.from(exec).toHex()};`;
    return `T${gdbSignal.toString(16).padStart(2, "0")}${path}07:0000000000000000;${thread}`;
  }

  #reply(packet: string): string {
    const [verb, rest] = splitVerb(packet);
    switch (verb) {
      case "qSupported":
        return "PacketSize=47ff;QPassSignals+;qXfer:features:read+;QStartNoAckMode+;multiprocess+;QNonStop+;qXfer:threads:read+;qXfer:siginfo:read+";
      case "QStartNoAckMode":
      case "QNonStop":
      case "QPassSignals":
        return "OK";
      case "vAttach":
        return this.#attach(Number.parseInt(rest, 16));
      case "D":
        this.attached = false;
        for (const thread of this.threads.values()) thread.stop = null;
        return "OK";
      case "?":
        this.#queue = [...this.threads].flatMap(([tid, { stop }]) =>
          stop === null ? [] : [this.#stopText(tid, stop)],
        );
        return this.#queue[0] ?? "OK";
      case "vStopped":
        this.#queue.shift();
        return this.#queue[0] ?? "OK";
      case "Hg":
        return this.#select(rest);
      case "g":
        return this.#registers();
      case "G":
        return this.#setRegisters(rest);
      case "m":
        return this.#memory(rest);
      case "T":
        return this.threads.has(tidOf(rest)) ? "OK" : "E01";
      case "vCont":
        return this.#continue(rest);
      case "qXfer":
        return this.#xfer(rest);
      case "vFile":
        return this.#file(rest);
      default:
        return "";
    }
  }

  #attach(pid: number): string {
    if (pid !== this.pid || this.attached) return "E01";
    this.attached = true;
    return "OK";
  }

  #select(id: string): string {
    if (!this.threads.has(tidOf(id))) return "E01";
    this.#selected = tidOf(id);
    return "OK";
  }

  #registers(): string {
    const thread = this.threads.get(this.#selected);
    if (thread === undefined) return "E01";
    return thread.stop === null ? "x".repeat(thread.raw.length * 2) : thread.raw.toHex();
  }

  #setRegisters(hex: string): string {
    const thread = this.threads.get(this.#selected);
    if (thread === undefined) return "E01";
    thread.raw = Uint8Array.fromHex(hex);
    return "OK";
  }

  #memory(rest: string): string {
    const [at = "", length = ""] = rest.split(",");
    let hex = "";
    for (let index = 0n; index < BigInt(`0x${length}`); index += 1n) {
      const byte = this.memory.get(BigInt(`0x${at}`) + index);
      if (byte === undefined) break;
      hex += byte.toString(16).padStart(2, "0");
    }
    return hex === "" ? "E01" : hex;
  }

  #continue(actions: string): string {
    const queued: number[] = [];
    for (const action of actions.split(";")) {
      const [verb = "", id = ""] = action.split(":");
      const tids = id.endsWith(".-1") ? [...this.threads.keys()] : [tidOf(id)];
      for (const tid of tids) {
        const thread = this.threads.get(tid);
        if (thread === undefined) continue;
        if (verb === "t" && thread.stop === null) queued.push(tid);
        if (verb === "t" || thread.stop === null) continue;
        thread.stop = null;
        this.resumed.push({ tid, action: verb });
      }
    }
    // The threads stop after the reply.
    queueMicrotask(() => {
      for (const tid of queued) if (this.threads.get(tid)?.stop === null) this.stop(tid, { gdbSignal: 0, cause: null });
    });
    return "OK";
  }

  #xfer(rest: string): string {
    const match = /^(\w+):read:(.*):([0-9a-f]+),([0-9a-f]+)$/.exec(rest);
    if (match === null) return "E00";
    const [, object, annex, offset, length] = match;
    const whole = this.#object(object!, annex!);
    if (whole === null) return "E01";
    const from = Number.parseInt(offset!, 16);
    const piece = whole.slice(from, from + Number.parseInt(length!, 16));
    return `${from + piece.length < whole.length ? "m" : "l"}${escapeBinary(piece)}`;
  }

  #object(object: string, annex: string): string | null {
    const thread = (tid: number): string => `p${this.pid.toString(16)}.${tid.toString(16)}`;
    if (object === "features") return this.#selected === 0 ? null : (this.documents.get(annex) ?? null);
    if (object === "threads") {
      const lines = [...this.threads.keys()].map((tid) => `<thread id="${thread(tid)}" core="0" name="fake"/>\n`);
      return `<threads>\n${this.attached ? lines.join("") : ""}</threads>\n`;
    }
    const cause = this.threads.get(this.#selected)?.stop?.cause;
    return object === "siginfo" && cause ? Buffer.from(cause).toString("latin1") : null;
  }

  #file(rest: string): string {
    const [verb = "", ...parts] = rest.split(":");
    const path = Buffer.from(parts.join(":").split(",")[0]!, "hex").toString();
    if (verb === "open") {
      this.#openFile = this.unreadable.has(path) ? null : (this.files.get(path) ?? null);
      return this.files.has(path) ? "F5" : "F-1,2";
    }
    if (verb === "readlink") {
      const target = this.links.get(path);
      return target === undefined ? "F-1,2" : `F${target.length.toString(16)};${escapeBinary(target)}`;
    }
    if (verb !== "pread") return "F0";
    if (this.#openFile === null) return "F-1,270f";
    const [, count = "0", offset = "0"] = rest.slice("pread:".length).split(",");
    const from = Number.parseInt(offset, 16);
    const piece = (this.#openFile ?? "").slice(from, from + Number.parseInt(count, 16));
    return `F${piece.length.toString(16)};${escapeBinary(piece)}`;
  }
}

/** siginfo_t of a fault at an address. */
export function siginfo(signal: number, code: number, at: bigint): Uint8Array {
  const bytes = new Uint8Array(128);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, signal, true);
  view.setInt32(8, code, true);
  view.setBigUint64(16, at, true);
  return bytes;
}

/** Run lengths as gdbserver writes them: from three repeats on, never as `#`, `$`, `+` or `-`. */
export function runLengths(text: string): string {
  return text.replace(/([\s\S])\1{3,96}/g, (run, character: string) => {
    let repeats = run.length - 1;
    while (repeats > 3 && "#$+-".includes(String.fromCharCode(repeats + 29))) repeats -= 1;
    return `${character}*${String.fromCharCode(repeats + 29)}${character.repeat(run.length - 1 - repeats)}`;
  });
}

const tidOf = (id: string): number => Number.parseInt(id.split(".")[1] ?? "0", 16);

function splitVerb(packet: string): [verb: string, rest: string] {
  const word =
    /^(qSupported|QStartNoAckMode|QNonStop|QPassSignals|vAttach|vStopped|vCont|qXfer|vFile|Hg|[?DgGmT])[:;]?/.exec(
      packet,
    );
  return word === null ? ["", packet] : [word[1]!, packet.slice(word[0].length)];
}
