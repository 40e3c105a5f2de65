// SPDX-License-Identifier: Apache-2.0
/**
 * The messages of Cloud Hypervisor's migration protocol: bytes in, typed values out, and back. Pure; a peer is hostile
 * until its message has passed here.
 *
 *     Request, 16   u16 command, 6 header bytes, u64 payload length       Response, 16   u16 status, 6 zero, u64 length
 *     Range, 16     u64 guest address, u64 length                         Role, 2        first bytes of an extra connection
 *
 * Little-endian, packed. Source: `vm-migration/src/protocol.rs`, v53.0.
 */
import { HypervisorError } from "#errors.ts";

export const messageBytes = 16;
export const protocolVersion = 0;
export const configBytesMax = 16 << 20;
export const stateBytesMax = 256 << 20;

export const commands = {
  start: 1,
  config: 2,
  state: 3,
  memory: 4,
  complete: 5,
  abandon: 6,
  memoryFd: 7,
  completePaused: 8,
  pageFault: 9,
} as const;
export type CommandName = keyof typeof commands;

export type Request = { readonly command: CommandName; readonly lengthBytes: number; readonly version: number };
export type Status = "ok" | "error";
/** Guest-physical addresses stay below 2^52 on every machine there is. */
export type MemoryRange = { readonly gpa: number; readonly bytes: number };

/** The role of the connection on which a receiver asks for pages. */
export const faultRole: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(2));
faultRole[0] = 2;

const names = new Map<number, CommandName>(
  (Object.entries(commands) as [CommandName, number][]).map(([name, value]) => [value, name]),
);

export function encodeRequest(command: CommandName, lengthBytes = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(messageBytes));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, commands[command], true);
  if (command === "start") view.setUint16(2, protocolVersion, true);
  view.setBigUint64(8, BigInt(lengthBytes), true);
  return bytes;
}

/** @throws HypervisorError hypervisor.protocol */
export function decodeRequest(bytes: Uint8Array): Request {
  const view = viewOf(bytes);
  const number = view.getUint16(0, true);
  const command = names.get(number);
  if (command === undefined) throw broken(`command ${number} is unknown`);
  const version = command === "start" ? view.getUint16(2, true) : protocolVersion;
  if (version !== protocolVersion) throw broken(`version ${version} of the protocol is unknown`);
  const lengthBytes = lengthOf(view, 8);
  checkLength(command, lengthBytes);
  return { command, lengthBytes, version };
}

export function encodeResponse(status: Status): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(messageBytes));
  bytes[0] = status === "ok" ? 1 : 2;
  return bytes;
}

/** @throws HypervisorError hypervisor.protocol */
export function decodeResponse(bytes: Uint8Array): Status {
  const view = viewOf(bytes);
  const status = view.getUint16(0, true);
  if (lengthOf(view, 8) !== 0) throw broken("a response brings a payload");
  if (status === 1) return "ok";
  if (status === 2) return "error";
  throw broken(`status ${status} is unknown`);
}

/** @throws HypervisorError hypervisor.protocol */
export function decodeRange(bytes: Uint8Array, offset = 0): MemoryRange {
  const view = viewOf(bytes, offset);
  return { gpa: lengthOf(view, 0), bytes: lengthOf(view, 8) };
}

/** A table of ranges. @throws HypervisorError hypervisor.protocol */
export function decodeRanges(bytes: Uint8Array): MemoryRange[] {
  return Array.from({ length: bytes.length / messageBytes }, (_, index) => decodeRange(bytes, index * messageBytes));
}

function checkLength(command: CommandName, lengthBytes: number): void {
  const right = {
    start: lengthBytes === 0,
    complete: lengthBytes === 0,
    completePaused: lengthBytes === 0,
    abandon: lengthBytes === 0,
    config: lengthBytes > 0 && lengthBytes <= configBytesMax,
    state: lengthBytes > 0 && lengthBytes <= stateBytesMax,
    memory: lengthBytes > 0 && lengthBytes % messageBytes === 0,
    memoryFd: lengthBytes === 4,
    pageFault: lengthBytes === messageBytes,
  }[command];
  if (!right) throw broken(`${command} has a length of ${lengthBytes} bytes`);
}

function viewOf(bytes: Uint8Array, offset = 0): DataView {
  if (offset + messageBytes > bytes.length) throw broken(`a message has ${bytes.length - offset} bytes`);
  return new DataView(bytes.buffer, bytes.byteOffset + offset, messageBytes);
}

function lengthOf(view: DataView, offset: number): number {
  const value = view.getBigUint64(offset, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken(`${value} is no length and no address`);
  return Number(value);
}

const broken = (why: string): HypervisorError =>
  new HypervisorError("hypervisor.protocol", `the migration protocol was broken: ${why}`);
