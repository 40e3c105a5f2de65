// SPDX-License-Identifier: Apache-2.0
/**
 * The sending half of a migration as a process of its own: speaks the real bytes, in either form, and can break off, lie or
 * fall silent at every step. Arguments: socket, script as JSON. Prints how the other end answered, as JSON.
 */
import { MemoryFile } from "#board/native/memoryFile.ts";
import { UnixStream } from "#board/native/unixStream.ts";
import { blockFor } from "#clock.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { type commands, decodeResponse, encodeRequest, messageBytes } from "#vm/offload/wire.ts";
import { configText, contentOf, regions, stateText } from "./migration.ts";

export type SenderScript = {
  readonly form: "files" | "stream";
  readonly seed: number;
  readonly generation?: number;
  /** Closes before sending this. */
  readonly hangUpBefore?: string;
  /** Closes between a message and its payload. */
  readonly hangUpIn?: string;
  /** Sends this instead of the message. */
  readonly garble?: { readonly step: string; readonly how: "command" | "length" | "range" | "noDescriptor" | "config" };
  readonly usedRing?: number;
  /** A stream sends what has changed so often. */
  readonly rounds?: number;
};

class Sender {
  readonly #stream: UnixStream;
  readonly #files = new Map<number, MemoryFile>();

  constructor(
    socket: string,
    private readonly script: SenderScript,
  ) {
    let stream = UnixStream.connect(socket);
    for (let look = 0; stream === null && look < 5_000; look += 1) {
      blockFor(2);
      stream = UnixStream.connect(socket);
    }
    this.#stream = stream!;
  }

  /** The status of the last answer. */
  run(): string {
    const { form, seed, generation = 0, usedRing, rounds = 1 } = this.script;
    this.#send("start");
    if (form === "files") for (const region of regions) this.#sendFile(region, seed, generation);
    const config =
      this.script.garble?.how === "config" ? configText.replace('"size":4194304', '"size":-1') : configText;
    this.#send("config", Buffer.from(config));
    if (form === "stream") {
      this.#sendMemory(seed, 0, () => true);
      for (let round = 0; round < rounds; round += 1) this.#sendMemory(seed, generation, (page) => page % 10 === 5);
    }
    this.#send("state", Buffer.from(stateText(usedRing)));
    return this.#send("complete");
  }

  #sendFile({ slot, size, file_offset }: (typeof regions)[number], seed: number, generation: number): void {
    const file = MemoryFile.create("sent", file_offset + size);
    this.#files.set(slot, file);
    const first = slot === 0 ? 0 : regions[0].size / pageBytes;
    for (let page = 0; page < size / pageBytes; page += 1) {
      const bytes = contentOf(first + page, seed, generation);
      if (bytes.some((byte) => byte !== 0)) file.write(file_offset + page * pageBytes, bytes);
    }
    this.#break("memoryFd");
    this.#stream.write(this.#request("memoryFd", 4), 5_000);
    this.#breakIn("memoryFd");
    const number = new Uint8Array(new ArrayBuffer(4));
    new DataView(number.buffer).setUint32(0, slot, true);
    if (this.script.garble?.how === "noDescriptor") this.#stream.write(number, 5_000);
    else this.#stream.writeWithDescriptor(number, file.descriptor, 5_000);
    this.#answer("memoryFd");
  }

  #sendMemory(seed: number, generation: number, wanted: (page: number) => boolean): void {
    const ranges: number[][] = [];
    const contents: Uint8Array[] = [];
    for (const region of regions) {
      const first = region.slot === 0 ? 0 : regions[0].size / pageBytes;
      for (let page = 0; page < region.size / pageBytes; page += 1) {
        if (!wanted(first + page)) continue;
        ranges.push([region.gpa + page * pageBytes, pageBytes]);
        contents.push(contentOf(first + page, seed, generation));
      }
    }
    if (this.script.garble?.how === "range") ranges[1] = [2 ** 40, pageBytes];
    const table = new Uint8Array(new ArrayBuffer(ranges.length * messageBytes));
    const view = new DataView(table.buffer);
    ranges.forEach(([gpa, bytes], index) => {
      view.setBigUint64(index * messageBytes, BigInt(gpa!), true);
      view.setBigUint64(index * messageBytes + 8, BigInt(bytes!), true);
    });
    this.#break("memory");
    this.#stream.write(this.#request("memory", table.length), 5_000);
    this.#breakIn("memory");
    this.#stream.write(table, 5_000);
    for (const bytes of contents) this.#stream.write(bytes, 5_000);
    this.#answer("memory");
  }

  #send(command: keyof typeof commands, payload?: Uint8Array): string {
    this.#break(command);
    this.#stream.write(this.#request(command, payload?.length ?? 0), 5_000);
    this.#breakIn(command);
    if (payload !== undefined) this.#stream.write(Uint8Array.from(payload), 5_000);
    return this.#answer(command);
  }

  #request(command: keyof typeof commands, lengthBytes: number): Uint8Array<ArrayBuffer> {
    const bytes = encodeRequest(command, lengthBytes);
    const garble = this.script.garble;
    if (garble?.step !== command) return bytes;
    if (garble.how === "command") bytes[0] = 77;
    if (garble.how === "length") bytes[15] = 0x7f;
    return bytes;
  }

  #answer(step: string): string {
    const bytes = new Uint8Array(new ArrayBuffer(messageBytes));
    this.#stream.read(bytes, 30_000);
    const status = decodeResponse(bytes);
    if (status === "error" && step !== "complete") throw new RangeError(`refused at ${step}`);
    return status;
  }

  #break(step: string): void {
    if (this.script.hangUpBefore === step) this.#leave();
  }

  #breakIn(step: string): void {
    if (this.script.hangUpIn === step) this.#leave();
  }

  #leave(): void {
    this.#stream.finish();
    console.log(JSON.stringify({ last: "left" }));
    process.exit(0);
  }
}

if (import.meta.main) {
  const [socket, text] = process.argv.slice(2);
  const script = JSON.parse(text!) as SenderScript;
  let last = "nothing";
  try {
    last = new Sender(socket!, script).run();
  } catch (error) {
    last = `closed: ${(error as Error).message}`;
  }
  console.log(JSON.stringify({ last }));
}
