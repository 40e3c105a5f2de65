// SPDX-License-Identifier: Apache-2.0
/**
 * What one checked client says and must hear: requests with the exact bytes of the one right answer.
 *
 * A client works on keys of its own and keeps a model of them, so the answer is known before it is asked, also when
 * requests are pipelined. Every value carries client, sequence and checksum: bytes that belong to somebody else, or to an
 * earlier write, cannot pass for the right ones.
 */
import type { Random } from "#clock.ts";

export type Exchange = {
  readonly request: Uint8Array;
  /** The whole answer, byte for byte. */
  readonly expected: Uint8Array;
};

/** One client's endless conversation. Its answers come in the order of its requests. */
export interface Traffic {
  next(): Exchange;
}

/** Makes the conversation of client number `client`; keys start with `prefix`. */
export type TrafficMaker = (client: number, random: Random, prefix: string) => Traffic;

const paddingCharactersMax = 200;

/** A value that says whose it is: `client.sequence.padding.crc32`. */
export function checkedValue(client: number, sequence: number, random: Random): string {
  const padding = "x".repeat(Math.floor(random() * paddingCharactersMax));
  const body = `${client}.${sequence}.${padding}`;
  return `${body}.${Bun.hash.crc32(body).toString(16).padStart(8, "0")}`;
}

export const bytesOf = (text: string): Uint8Array => Buffer.from(text, "latin1");
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

export const pick = <Item>(items: readonly Item[], random: Random): Item =>
  items[Math.floor(random() * items.length)] as Item;
