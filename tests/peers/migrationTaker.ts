// SPDX-License-Identifier: Apache-2.0
/**
 * The receiving half of a migration as a process of its own: takes a guest in, touches its pages in an order that a seed
 * gives while it goes through all of them, and compares each with what it must be. Can break off or ask for nonsense.
 *
 * Arguments: socket, script as JSON. Prints what it saw as JSON: pages that were wrong, and how it ended.
 */
import { MemoryFile } from "#board/native/memoryFile.ts";
import { UnixListener, type UnixStream } from "#board/native/unixStream.ts";
import { seededRandom } from "#clock.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  messageBytes,
  type Request,
} from "#vm/offload/wire.ts";
import { contentOf, pageCount, regions } from "./migration.ts";

export type TakerScript = {
  readonly lazy: boolean;
  readonly seed: number;
  readonly generation?: number;
  /** Touches of the guest beside the fill. */
  readonly touches?: number;
  readonly hangUpAt?: string;
  readonly refuse?: string;
  /** Asks for a page that is not the guest's. */
  readonly askOutside?: boolean;
};

class Taker {
  readonly #files = new Map<number, MemoryFile>();
  readonly #seen = new Set<number>();
  #faults: UnixStream | null = null;
  #config = "";
  wrong = 0;

  constructor(
    private readonly listener: UnixListener,
    private readonly script: TakerScript,
  ) {}

  run(): string {
    const main = this.listener.accept(60_000);
    for (;;) {
      const request = this.#next(main);
      if (this.script.hangUpAt === request.command) return `left at ${request.command}`;
      this.#take(main, request);
      const refused = this.script.refuse === request.command;
      main.write(encodeResponse(refused ? "error" : "ok"), 5_000);
      if (refused) return `refused ${request.command}`;
      if (request.command === "complete") break;
    }
    if (this.#faults === null) this.#compareAll();
    else this.#live(this.#faults);
    return "whole";
  }

  get edited(): boolean {
    return this.#config.includes('"thp":false') && this.#config.includes("18446744073709551615");
  }

  #take(main: UnixStream, { command, lengthBytes }: Request): void {
    if (command === "memoryFd") {
      const slot = new Uint8Array(new ArrayBuffer(4));
      const fd = main.readWithDescriptor(slot, 5_000);
      this.#files.set(new DataView(slot.buffer).getUint32(0, true), new MemoryFile(fd));
    } else if (command === "config") {
      this.#config = Buffer.from(this.#payload(main, lengthBytes)).toString();
    } else if (command === "state") {
      if (this.script.lazy) {
        this.#faults = this.listener.accept(60_000);
        const role = new Uint8Array(new ArrayBuffer(2));
        this.#faults.read(role, 5_000);
        // A device that is restored touches memory before the state has been answered.
        this.#touch(pageCount - 1);
      }
      this.#payload(main, lengthBytes);
    }
  }

  /** The guest touches what it likes, and every page is asked for once, ascending in each region. */
  #live(faults: UnixStream): void {
    const random = seededRandom(this.script.seed);
    if (this.script.askOutside === true) this.#ask(2 ** 41);
    let touches = this.script.touches ?? 0;
    for (let page = 0; page < pageCount; page += 1) {
      for (; touches > 0 && random() < 0.3; touches -= 1) this.#touch(Math.floor(random() * pageCount));
      if (this.#seen.has(page)) continue;
      this.#seen.add(page);
      this.#ask(gpaOf(page));
      if (random() < 0.2) this.#touch(page);
    }
    for (let page = 0; page < pageCount; page += 1) if (!isZero(contentOf(page, this.script.seed))) this.#compare(page);
    faults.finish();
  }

  /** As the guest sees it: a hole is a fault, and is asked for until it is none. */
  #touch(page: number): void {
    for (let tries = 0; this.#isHole(page); tries += 1) {
      if (tries > 2) throw new RangeError(`page ${page} never came`);
      this.#seen.add(page);
      this.#ask(gpaOf(page));
    }
    this.#compare(page);
  }

  #ask(gpa: number): void {
    const range = new Uint8Array(new ArrayBuffer(messageBytes));
    const view = new DataView(range.buffer);
    view.setBigUint64(0, BigInt(gpa), true);
    view.setBigUint64(8, BigInt(pageBytes), true);
    this.#faults!.write(encodeRequest("pageFault", messageBytes), 5_000);
    this.#faults!.write(range, 5_000);
    const answer = new Uint8Array(new ArrayBuffer(messageBytes));
    this.#faults!.read(answer, 30_000);
    if (decodeResponse(answer) !== "ok") throw new RangeError("a page was refused");
  }

  #compareAll(): void {
    for (let page = 0; page < pageCount; page += 1) this.#compare(page);
  }

  #compare(page: number): void {
    const { file, offset } = this.#placeOf(page);
    const bytes = new Uint8Array(new ArrayBuffer(pageBytes));
    file.read(offset, bytes);
    const { seed, generation = 0 } = this.script;
    if (Buffer.compare(bytes, contentOf(page, seed, generation)) !== 0) this.wrong += 1;
  }

  #isHole(page: number): boolean {
    const { file, offset } = this.#placeOf(page);
    return file.nextData(offset, offset + pageBytes) === null;
  }

  #placeOf(page: number): { file: MemoryFile; offset: number } {
    const [low, high] = regions;
    const lowPages = low.size / pageBytes;
    if (page < lowPages) return { file: this.#files.get(0)!, offset: page * pageBytes };
    return { file: this.#files.get(1)!, offset: high.file_offset + (page - lowPages) * pageBytes };
  }

  #next(main: UnixStream): Request {
    const bytes = new Uint8Array(new ArrayBuffer(messageBytes));
    main.read(bytes, 30_000);
    return decodeRequest(bytes);
  }

  #payload(main: UnixStream, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(new ArrayBuffer(lengthBytes));
    main.read(bytes, 30_000);
    return bytes;
  }
}

const gpaOf = (page: number): number => {
  const lowPages = regions[0].size / pageBytes;
  return page < lowPages ? page * pageBytes : regions[1].gpa + (page - lowPages) * pageBytes;
};
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

if (import.meta.main) {
  const [socket, text] = process.argv.slice(2);
  const taker = new Taker(new UnixListener(socket!), JSON.parse(text!) as TakerScript);
  let end: string;
  try {
    end = taker.run();
  } catch (error) {
    end = `failed: ${(error as Error).message}`;
  }
  console.log(JSON.stringify({ end, wrong: taker.wrong, edited: taker.edited }));
}
