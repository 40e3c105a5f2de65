// SPDX-License-Identifier: Apache-2.0
/**
 * Checked memcached traffic of one client over the text protocol: set, get, multi-get, incr, append and delete.
 *
 * Gets a client number and randomness; gives requests with their exact answers. 8 keys of at most 1 KiB and one counter a
 * client: far below the smallest cache, so that nothing is evicted. Source: memcached doc/protocol.txt.
 */
import type { Random } from "#clock.ts";
import { bytesOf, checkedValue, type Exchange, pick, type Traffic, type TrafficMaker } from "./traffic.ts";

const slots = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const valueCharactersMax = 1_024;

export const memcachedTraffic: TrafficMaker = (client, random, prefix) =>
  new MemcachedTraffic(client, random, prefix, []);

/** The same for a server with an `-Y` file that holds `user:password`. */
export const authenticatedTraffic =
  (user: string, password: string): TrafficMaker =>
  (client, random, prefix) => {
    const token = `${user} ${password}`;
    return new MemcachedTraffic(client, random, prefix, [
      exchange(`set login 0 0 ${token.length}\r\n${token}\r\n`, "STORED\r\n"),
    ]);
  };

class MemcachedTraffic implements Traffic {
  #sequence = 0;
  #counter = 0;
  readonly #values = new Map<number, string>();
  readonly #opening: Exchange[];

  constructor(
    private readonly client: number,
    private readonly random: Random,
    private readonly prefix: string,
    greeting: readonly Exchange[],
  ) {
    this.#opening = [...greeting, exchange(`set ${this.#key("n")} 0 0 1\r\n0\r\n`, "STORED\r\n")];
  }

  next(): Exchange {
    const opening = this.#opening.shift();
    if (opening !== undefined) return opening;
    // Every slot is written once before it is read: the server may hold values of an earlier run.
    const unwritten = slots.find((slot) => !this.#values.has(slot) && this.#sequence <= slots.length);
    if (unwritten !== undefined) return this.#set(unwritten);
    const turn = this.random();
    if (turn < 0.3) return this.#set(pick(slots, this.random));
    if (turn < 0.6) return this.#get([pick(slots, this.random)]);
    if (turn < 0.75) return this.#increment();
    if (turn < 0.85) return this.#get([pick(slots, this.random), pick(slots, this.random)]);
    if (turn < 0.95) return this.#append(pick(slots, this.random));
    return this.#delete(pick(slots, this.random));
  }

  #set(slot: number): Exchange {
    const value = this.#value();
    this.#values.set(slot, value);
    return exchange(`set ${this.#key(slot)} ${this.client} 0 ${value.length}\r\n${value}\r\n`, "STORED\r\n");
  }

  #get(wanted: readonly number[]): Exchange {
    const blocks = wanted.map((slot) => {
      const value = this.#values.get(slot);
      return value === undefined ? "" : `VALUE ${this.#key(slot)} ${this.client} ${value.length}\r\n${value}\r\n`;
    });
    return exchange(`get ${wanted.map((slot) => this.#key(slot)).join(" ")}\r\n`, `${blocks.join("")}END\r\n`);
  }

  #increment(): Exchange {
    this.#counter += 1;
    return exchange(`incr ${this.#key("n")} 1\r\n`, `${this.#counter}\r\n`);
  }

  #append(slot: number): Exchange {
    const old = this.#values.get(slot);
    const tail = this.#value();
    if (old !== undefined && old.length + tail.length > valueCharactersMax) return this.#set(slot);
    if (old !== undefined) this.#values.set(slot, old + tail);
    return exchange(
      `append ${this.#key(slot)} 0 0 ${tail.length}\r\n${tail}\r\n`,
      old === undefined ? "NOT_STORED\r\n" : "STORED\r\n",
    );
  }

  #delete(slot: number): Exchange {
    return exchange(`delete ${this.#key(slot)}\r\n`, this.#values.delete(slot) ? "DELETED\r\n" : "NOT_FOUND\r\n");
  }

  #key(name: number | string): string {
    return `${this.prefix}:${this.client}:${name}`;
  }

  #value(): string {
    this.#sequence += 1;
    return checkedValue(this.client, this.#sequence, this.random);
  }
}

const exchange = (request: string, expected: string): Exchange => ({
  request: bytesOf(request),
  expected: bytesOf(expected),
});
