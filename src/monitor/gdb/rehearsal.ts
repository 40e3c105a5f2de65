// SPDX-License-Identifier: Apache-2.0
/**
 * Runs what every stop runs, against a stub made of a few lines, until the engine has compiled it.
 *
 * Gets the layout of the program's registers. Takes 40 to 100 ms, in turns of a few, and touches no program. Without it the first fault of a
 * program pays for all of it (scripts/bench/gdb.ts, coldInspect and coldResume).
 */
import type { Clock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { GdbConnection } from "./connection.ts";
import { encodeNotification, encodePacket, FrameDecoder } from "./frame.ts";
import { readInspection, writeRequest } from "./inspection.ts";
import type { RegisterLayout } from "./registers.ts";
import type { Stopped } from "./session.ts";
import type { Transport } from "./transport.ts";

/** First inspection on a busy 2-core machine: 1.9 ms after 0 rounds, 1.0 after 80, 0.45 after 300 (medians of 6). */
const rounds = 240;
const roundsPerTurn = 20;
const features = "PacketSize=8000;multiprocess+;QNonStop+;QPassSignals+;qXfer:features:read+;qXfer:threads:read+";
const stop = "T0b06:7f0000000000* ;thread:p2.3;core:0;";

/** Ends early once `wanted` says that there is real work. */
export async function rehearse(layout: RegisterLayout, clock: Clock, wanted: () => boolean): Promise<void> {
  const stub = new RehearsalStub(layout);
  const stops: { stop: Stopped; replies: Promise<readonly string[]> }[] = [];
  await using connection = await GdbConnection.open(
    stub,
    { clock, log: silentLog },
    {
      stopped: (told, replies) => stops.push({ stop: told, replies }),
      ended: () => {},
      forked: () => {},
      lost: () => {},
    },
  );
  const changes = new Map([[layout.pc, 0x5555_5555_0000n]]);
  for (let round = 0; round < rounds; round += 1) {
    if (round % roundsPerTurn === 0) await clock.sleep(0);
    if (wanted()) return;
    stub.fault();
    while (stops.length === 0) await stub.pause();
    const told = stops.pop()!;
    const { raw } = readInspection(layout, told.stop, await told.replies);
    const { thread, serial } = told.stop;
    await connection.resume({
      thread,
      serial,
      action: "c",
      registers: writeRequest(layout, raw, changes, connection.packetBytes),
    });
  }
}

class RehearsalStub implements Transport {
  readonly peer = "rehearsal";
  readonly #decoder = new FrameDecoder();
  readonly #registers: string;
  #chunks: string[] = [];
  #arrived = Promise.withResolvers<void>();
  #closed = false;

  constructor(layout: RegisterLayout) {
    const raw = new Uint8Array(layout.totalBytes).map((_, index) => (index < layout.neededBytes ? index * 29 : 0));
    // Zeros as run lengths, as a real stub sends them.
    this.#registers = raw.toHex().replace(/0{98}/g, "0*~");
  }

  fault(): void {
    this.#send(encodeNotification(`Stop:${stop}`));
  }

  /** Lets what was sent be read. */
  pause(): Promise<void> {
    return new Promise((resolve) => queueMicrotask(resolve));
  }

  write(text: string): void {
    let replies = "";
    for (const frame of this.#decoder.push(Buffer.from(text, "latin1"))) {
      if (frame.kind === "packet") replies += encodePacket(this.#reply(frame.text));
    }
    if (replies !== "") this.#send(replies);
  }

  get incoming(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#arrived.resolve();
  }

  #reply(packet: string): string {
    if (packet.startsWith("qSupported")) return features;
    if (packet === "g") return this.#registers;
    return packet.startsWith("qXfer:siginfo") ? `l\x0b${"\0".repeat(63)}` : "OK";
  }

  #send(text: string): void {
    this.#chunks.push(text);
    this.#arrived.resolve();
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    while (!this.#closed) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) yield Buffer.from(chunk, "latin1");
      else {
        this.#arrived = Promise.withResolvers<void>();
        await this.#arrived.promise;
      }
    }
  }
}
