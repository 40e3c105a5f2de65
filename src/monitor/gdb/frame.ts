// SPDX-License-Identifier: Apache-2.0
/**
 * Frames of the GDB remote protocol: bytes in, packets, notifications and acknowledgements out, whatever the split.
 *
 * Gets chunks as they come; gives frames whose text has one character (0..255) a byte, run lengths expanded and
 * checksums verified. A frame that is broken, cut by the start of another, or over `maxTextBytes` becomes `damaged`;
 * bytes outside frames are counted as `noise`. Memory is bounded by `maxTextBytes`, whatever the peer sends.
 * Source: GDB manual, "Overview" and "Notification Packets" of appendix E; run lengths as gdbserver 13 sends them.
 */

export type Frame =
  | { readonly kind: "packet"; readonly text: string }
  | { readonly kind: "notification"; readonly text: string }
  | { readonly kind: "ack" }
  | { readonly kind: "nak" }
  | { readonly kind: "damaged"; readonly reason: string }
  | { readonly kind: "noise"; readonly lengthBytes: number };

/** Most text one frame may expand to: a `g` reply with AVX-512 and AMX state is about 38,000 characters. */
export const maxTextBytes = 128 * 1024;

const dollar = 0x24;
const percent = 0x25;
const hash = 0x23;
const star = 0x2a;
const plus = 0x2b;
const minus = 0x2d;
/** A repeat count is its character minus 29; characters below space would be counts under 3. */
const runBias = 29;
const runMin = 0x20;
const runMax = 0x7e;

type Place = "outside" | "body" | "runLength" | "checksumHigh" | "checksumLow";

export class FrameDecoder {
  #place: Place = "outside";
  #kind: "packet" | "notification" = "packet";
  #text = Buffer.alloc(4096);
  #length = 0;
  #sum = 0;
  #sentSum = 0;
  #fault: string | null = null;
  #noiseBytes = 0;

  /** Feeds a chunk and returns the frames that it completes. */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    for (let index = 0; index < chunk.length; ) {
      if (this.#place === "body") {
        const end = this.#literals(chunk, index);
        if (end === chunk.length) break;
        index = end;
      }
      this.#feed(chunk[index]!, frames);
      index += 1;
    }
    this.#flushNoise(frames);
    return frames;
  }

  /** Takes the bytes that mean themselves, up to the next that does not; returns its index. The hot loop. */
  #literals(chunk: Uint8Array, from: number): number {
    let sum = 0;
    let end = from;
    for (; end < chunk.length; end += 1) {
      const byte = chunk[end]!;
      if (byte === star || byte === hash || byte === dollar) break;
      sum += byte;
    }
    this.#sum += sum;
    if (end > from && this.#reserve(end - from)) {
      this.#text.set(chunk.subarray(from, end), this.#length);
      this.#length += end - from;
    }
    return end;
  }

  #feed(byte: number, frames: Frame[]): void {
    switch (this.#place) {
      case "outside":
        this.#outside(byte, frames);
        break;
      case "body":
        this.#mark(byte, frames);
        break;
      case "runLength":
        this.#sum += byte;
        this.#place = "body";
        this.#repeat(byte);
        break;
      case "checksumHigh":
        this.#sentSum = hexDigit(byte) * 16;
        this.#place = "checksumLow";
        break;
      case "checksumLow":
        this.#place = "outside";
        frames.push(this.#finish(this.#sentSum + hexDigit(byte)));
    }
  }

  #outside(byte: number, frames: Frame[]): void {
    if (byte === dollar || byte === percent) {
      this.#flushNoise(frames);
      this.#begin(byte);
    } else if (byte === plus || byte === minus) {
      this.#flushNoise(frames);
      frames.push({ kind: byte === plus ? "ack" : "nak" });
    } else {
      this.#noiseBytes += 1;
    }
  }

  #mark(byte: number, frames: Frame[]): void {
    if (byte === hash) {
      this.#place = "checksumHigh";
    } else if (byte === star) {
      this.#sum += byte;
      this.#place = "runLength";
    } else {
      // `$` is escaped in every body: the peer gave up on the frame before it.
      frames.push({ kind: "damaged", reason: "a new packet began inside a frame" });
      this.#begin(byte);
    }
  }

  #begin(byte: number): void {
    this.#kind = byte === dollar ? "packet" : "notification";
    this.#place = "body";
    this.#length = 0;
    this.#sum = 0;
    this.#fault = null;
  }

  #repeat(byte: number): void {
    const count = byte - runBias;
    if (this.#length === 0) this.#fault ??= "a run length with nothing before it";
    else if (byte < runMin || byte > runMax) this.#fault ??= `run length character ${byte}`;
    else if (this.#reserve(count)) {
      this.#text.fill(this.#text[this.#length - 1]!, this.#length, this.#length + count);
      this.#length += count;
    }
  }

  /** Makes room for `count` bytes more; false where the frame has become too long. */
  #reserve(count: number): boolean {
    const length = this.#length + count;
    if (length > maxTextBytes) this.#fault ??= `more than ${maxTextBytes} bytes in one frame`;
    if (this.#fault !== null) return false;
    if (length > this.#text.length) this.#text = Buffer.concat([this.#text], Math.max(length, this.#text.length * 2));
    return true;
  }

  #finish(sentSum: number): Frame {
    const sum = this.#sum & 0xff;
    if (this.#fault !== null) return { kind: "damaged", reason: this.#fault };
    if (sum !== sentSum) return { kind: "damaged", reason: `checksum ${sentSum} sent, ${sum} counted` };
    return { kind: this.#kind, text: this.#text.toString("latin1", 0, this.#length) };
  }

  #flushNoise(frames: Frame[]): void {
    if (this.#noiseBytes === 0) return;
    frames.push({ kind: "noise", lengthBytes: this.#noiseBytes });
    this.#noiseBytes = 0;
  }
}

/** A packet around `text`, one character a byte. The text must not hold `$`, `#` or, in binary parts, bare `}` and `*`. */
export function encodePacket(text: string): string {
  return `$${text}#${checksum(text)}`;
}

/** A notification around `text`; what a stub sends. */
export function encodeNotification(text: string): string {
  return `%${text}#${checksum(text)}`;
}

/** Binary bytes as the body of a packet: `}` and the byte XOR 0x20 for the four that mean something. */
export function escapeBinary(binary: string): string {
  return binary.replace(/[#$*}]/g, (character) => `}${String.fromCharCode(character.charCodeAt(0) ^ 0x20)}`);
}

/** The reverse of `escapeBinary`, for a text whose run lengths are expanded. A `}` at the end stays as it is. */
export function unescapeBinary(text: string): string {
  if (!text.includes("}")) return text;
  return text.replace(/\}([\s\S])/g, (_, character: string) => String.fromCharCode(character.charCodeAt(0) ^ 0x20));
}

function checksum(text: string): string {
  // Bytes of a flat buffer: several times cheaper than characters of a text that was put together just now.
  const bytes = Buffer.from(text, "latin1");
  let sum = 0;
  for (let index = 0; index < bytes.length; index += 1) sum += bytes[index]!;
  return (sum & 0xff).toString(16).padStart(2, "0");
}

/** Value of a hex digit; so large for anything else that no checksum matches. */
function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  if (byte >= 0x61 && byte <= 0x66) return byte - 0x57;
  if (byte >= 0x41 && byte <= 0x46) return byte - 0x37;
  return 0x1000;
}
