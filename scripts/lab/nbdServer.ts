// SPDX-License-Identifier: Apache-2.0
/**
 * The server side of the network block device protocol, fixed newstyle, over a unix socket. Gets a disk; serves it as the
 * only export to every client that connects.
 *
 * Read, write (with FUA) and flush; no structured replies, no trimming: what is not offered is not asked for. Limits: 32 MiB
 * a request, 4 KiB an option. Source: doc/proto.md of the NetworkBlockDevice project.
 */
import { chmodSync } from "node:fs";
import type { Socket } from "bun";

/** What is served. A call that gives null or false is answered with EIO. */
export type BlockDevice = {
  readonly bytes: number;
  read(at: number, length: number): Uint8Array | null;
  write(at: number, bytes: Uint8Array, durable: boolean): boolean;
  flush(): boolean;
};

const requestBytesMax = 32 * 1024 * 1024;
const optionBytesMax = 4096;
const serverMagic = 0x4e42444d41474943n;
const optionMagic = 0x49484156454f5054n;
const optionReplyMagic = 0x3e889045565a9n;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const fixedNewstyle = 1;
const noZeroes = 2;
/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA. */
const exportFlags = 1 | 4 | 8;
const options = { exportName: 1, abort: 2, info: 6, go: 7 } as const;
const replies = { ack: 1, info: 3, unsupported: 0x80000001 } as const;
const commands = { read: 0, write: 1, disconnect: 2, flush: 3 } as const;
const fuaFlag = 1;
const errorIo = 5;
const errorInvalid = 22;
const requestHeaderBytes = 28;

type Client = { session: Session };

/** Listens at `path` until disposed. */
export function serveNbd(path: string, disk: BlockDevice): Disposable {
  const listener = Bun.listen<Client>({
    unix: path,
    socket: {
      open(socket) {
        socket.data = { session: new Session(disk, socket) };
        socket.data.session.greet();
      },
      data(socket, bytes) {
        socket.data.session.receive(bytes);
      },
      drain(socket) {
        socket.data.session.drain();
      },
    },
  });
  chmodSync(path, 0o600);
  return { [Symbol.dispose]: () => listener.stop(true) };
}

class Session {
  readonly #disk: BlockDevice;
  readonly #socket: Socket<Client>;
  #state: "flags" | "options" | "transmission" | "closed" = "flags";
  #zeroes = true;
  #input = Buffer.alloc(0);
  #output: Uint8Array[] = [];

  constructor(disk: BlockDevice, socket: Socket<Client>) {
    this.#disk = disk;
    this.#socket = socket;
  }

  greet(): void {
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(serverMagic, 0);
    greeting.writeBigUInt64BE(optionMagic, 8);
    greeting.writeUInt16BE(fixedNewstyle | noZeroes, 16);
    this.#send(greeting);
  }

  receive(bytes: Uint8Array): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    while (this.#step());
  }

  drain(): void {
    while (this.#output.length > 0) {
      const first = this.#output[0]!;
      const sent = this.#socket.write(first);
      if (sent < first.length) {
        this.#output[0] = first.subarray(Math.max(0, sent));
        return;
      }
      this.#output.shift();
    }
  }

  /** Takes one message off the input. False where it is not there whole. */
  #step(): boolean {
    switch (this.#state) {
      case "flags": {
        const flags = this.#take(4);
        if (flags === null) return false;
        this.#zeroes = (flags.readUInt32BE(0) & noZeroes) === 0;
        this.#state = "options";
        return true;
      }
      case "options":
        return this.#option();
      case "transmission":
        return this.#request();
      case "closed":
        return false;
    }
  }

  #option(): boolean {
    if (this.#input.length < 16) return false;
    const length = this.#input.readUInt32BE(12);
    if (this.#input.readBigUInt64BE(0) !== optionMagic || length > optionBytesMax) return this.#close();
    const bytes = this.#take(16 + length);
    if (bytes === null) return false;
    const option = bytes.readUInt32BE(8);
    switch (option) {
      case options.exportName:
        this.#send(Buffer.concat([this.#exportFacts(), Buffer.alloc(this.#zeroes ? 124 : 0)]));
        this.#state = "transmission";
        return true;
      case options.info:
      case options.go:
        this.#replyToOption(option, replies.info, Buffer.concat([Buffer.from([0, 0]), this.#exportFacts()]));
        this.#replyToOption(option, replies.ack);
        if (option === options.go) this.#state = "transmission";
        return true;
      case options.abort:
        this.#replyToOption(option, replies.ack);
        return this.#close();
      default:
        this.#replyToOption(option, replies.unsupported);
        return true;
    }
  }

  #request(): boolean {
    if (this.#input.length < requestHeaderBytes) return false;
    const flags = this.#input.readUInt16BE(4);
    const command = this.#input.readUInt16BE(6);
    const length = this.#input.readUInt32BE(24);
    if (this.#input.readUInt32BE(0) !== requestMagic || length > requestBytesMax) return this.#close();
    const bytes = this.#take(requestHeaderBytes + (command === commands.write ? length : 0));
    if (bytes === null) return false;
    const cookie = bytes.readBigUInt64BE(8);
    const at = Number(bytes.readBigUInt64BE(16));
    switch (command) {
      case commands.read: {
        const content = this.#disk.read(at, length);
        this.#reply(cookie, content === null ? errorIo : 0, content ?? undefined);
        return true;
      }
      case commands.write:
        this.#reply(
          cookie,
          this.#disk.write(at, bytes.subarray(requestHeaderBytes), (flags & fuaFlag) !== 0) ? 0 : errorIo,
        );
        return true;
      case commands.flush:
        this.#reply(cookie, this.#disk.flush() ? 0 : errorIo);
        return true;
      case commands.disconnect:
        return this.#close();
      default:
        this.#reply(cookie, errorInvalid);
        return true;
    }
  }

  #exportFacts(): Buffer {
    const facts = Buffer.alloc(10);
    facts.writeBigUInt64BE(BigInt(this.#disk.bytes), 0);
    facts.writeUInt16BE(exportFlags, 8);
    return facts;
  }

  #replyToOption(option: number, kind: number, content: Uint8Array = new Uint8Array(0)): void {
    const header = Buffer.alloc(20);
    header.writeBigUInt64BE(optionReplyMagic, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(kind, 12);
    header.writeUInt32BE(content.length, 16);
    this.#send(Buffer.concat([header, content]));
  }

  #reply(cookie: bigint, error: number, content: Uint8Array = new Uint8Array(0)): void {
    const header = Buffer.alloc(16);
    header.writeUInt32BE(replyMagic, 0);
    header.writeUInt32BE(error, 4);
    header.writeBigUInt64BE(cookie, 8);
    this.#send(Buffer.concat([header, error === 0 ? content : new Uint8Array(0)]));
  }

  #take(length: number): Buffer | null {
    if (this.#input.length < length) return null;
    const taken = this.#input.subarray(0, length);
    this.#input = this.#input.subarray(length);
    return taken;
  }

  #send(bytes: Uint8Array): void {
    this.#output.push(bytes);
    this.drain();
  }

  #close(): false {
    this.#state = "closed";
    this.#socket.end();
    return false;
  }
}
