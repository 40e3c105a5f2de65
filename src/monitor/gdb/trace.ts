// SPDX-License-Identifier: Apache-2.0
/**
 * The wire trace: one line a frame, so that a conversation can be read, kept as a fixture, and replayed.
 *
 * A line is `OFFSET_MS PEER DIRECTION BYTES`: offset to the start with three decimals, the peer without spaces, `>` sent
 * or `<` received, the bytes with everything outside printable ASCII (and `\`) as `\xNN`.
 * Limits: `maxTraceBytes` of text, after which one line says that the rest is missing.
 */
import type { Clock } from "#clock.ts";
import { GdbError } from "#errors.ts";

export type TraceLine = {
  readonly offsetMs: number;
  readonly peer: string;
  readonly direction: ">" | "<";
  /** One character a byte. */
  readonly bytes: string;
};

export const maxTraceBytes = 256 * 1024 * 1024;

/** Writes what passes, split into frames, line by line. */
export class WireTrace {
  readonly #startNs: number;
  #written = 0;
  #rest = "";

  constructor(
    private readonly peer: string,
    private readonly clock: Clock,
    private readonly write: (line: string) => void,
  ) {
    this.#startNs = clock.monotonicNs();
  }

  /** `text` holds whole frames. */
  sent(text: string): void {
    for (const frame of splitFrames(text)) this.#line(">", frame);
  }

  /** A chunk as it came; a frame that is cut waits for its end. */
  received(chunk: Uint8Array): void {
    const frames = splitFrames(this.#rest + Buffer.from(chunk).toString("latin1"));
    const last = frames.at(-1);
    this.#rest = last !== undefined && !whole(last) && last.length < maxCutBytes ? frames.pop()! : "";
    for (const frame of frames) this.#line("<", frame);
  }

  #line(direction: ">" | "<", bytes: string): void {
    if (this.#written > maxTraceBytes) return;
    const offsetMs = (this.clock.monotonicNs() - this.#startNs) / 1e6;
    const line = formatTraceLine({ offsetMs, peer: this.peer, direction, bytes });
    this.#written += line.length + 1;
    this.write(this.#written > maxTraceBytes ? `# more than ${maxTraceBytes} bytes: the rest is missing` : line);
  }
}

/** A received frame longer than this is written in pieces. */
const maxCutBytes = 64 * 1024;
const frameText = /[$%][^#]*(?:#[\s\S]{0,2})?|[+-]|[^$%+-]+/g;
/** Frames, acknowledgements and what lies between, in order. */
export const splitFrames = (text: string): string[] => text.match(frameText) ?? [];
const whole = (frame: string): boolean => (frame[0] !== "$" && frame[0] !== "%") || frame.at(-3) === "#";

export function formatTraceLine({ offsetMs, peer, direction, bytes }: TraceLine): string {
  return `${offsetMs.toFixed(3)} ${peer.replace(/\s/g, "_")} ${direction} ${escapeBytes(bytes)}`;
}

/** All lines of a trace; empty lines and lines that begin with `#` are comments. @throws GdbError "gdb.message" */
export function parseTrace(text: string): TraceLine[] {
  const lines: TraceLine[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line === "" || line.startsWith("#")) continue;
    const match = /^(\d+(?:\.\d+)?) (\S+) ([<>]) ((?:[ -[\]-~]|\\x[0-9a-f]{2})*)$/.exec(line);
    if (match === null)
      throw new GdbError("gdb.message", `line ${index + 1} is not a line of a wire trace`, { line: line.slice(0, 80) });
    const direction = match[3] === ">" ? ">" : "<";
    lines.push({ offsetMs: Number(match[1]), peer: match[2]!, direction, bytes: unescapeBytes(match[4]!) });
  }
  return lines;
}

const escapeBytes = (bytes: string): string =>
  bytes.replace(/[^ -[\]-~]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);

const unescapeBytes = (text: string): string =>
  text.replace(/\\x([0-9a-f]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
