// SPDX-License-Identifier: Apache-2.0
/**
 * Checked redis traffic of one client: SET, GET, INCR, LPUSH, RPOP, HSET, HGET and MGET in a random mix, over RESP2.
 *
 * Gets a client number and randomness; gives requests with their exact answers. Keys: 8 strings, one counter, one list of at
 * most 64 elements, one hash of 8 fields. Source of the answer forms: redis 7 command reference.
 */
import type { Random } from "#clock.ts";
import { bytesOf, checkedValue, type Exchange, pick, type Traffic, type TrafficMaker } from "./traffic.ts";

const slots = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const listLengthMax = 64;

export const redisTraffic: TrafficMaker = (client, random, prefix) => new RedisTraffic(client, random, prefix);

/** One command as the array of bulk strings that redis reads. */
export function encodeCommand(words: readonly string[]): Uint8Array {
  return bytesOf(`*${words.length}\r\n${words.map((word) => bulk(word)).join("")}`);
}

class RedisTraffic implements Traffic {
  #sequence = 0;
  #counter = 0;
  readonly #strings = new Map<number, string>();
  readonly #list: string[] = [];
  readonly #hash = new Map<number, string>();

  constructor(
    private readonly client: number,
    private readonly random: Random,
    private readonly prefix: string,
  ) {}

  next(): Exchange {
    if (this.#sequence === 0) return this.#clear();
    const turn = this.random();
    if (turn < 0.25) return this.#set();
    if (turn < 0.5) return this.#get();
    if (turn < 0.65) return this.#increment();
    if (turn < 0.8) return this.#list.length < listLengthMax && this.random() < 0.6 ? this.#push() : this.#pop();
    if (turn < 0.9) return this.random() < 0.5 ? this.#setField() : this.#getField();
    return this.#getMany();
  }

  /** The model starts empty, so must the keys: a server that is used twice may still hold those of an earlier run. */
  #clear(): Exchange {
    this.#sequence = 1;
    const keys = [...slots.map((slot) => this.#key(slot)), this.#key("n"), this.#key("l"), this.#key("h")];
    return exchange(["EVAL", "redis.call('DEL', unpack(KEYS)) return 0", String(keys.length), ...keys], ":0\r\n");
  }

  #set(): Exchange {
    const slot = pick(slots, this.random);
    const value = this.#value();
    this.#strings.set(slot, value);
    return exchange(["SET", this.#key(slot), value], "+OK\r\n");
  }

  #get(): Exchange {
    const slot = pick(slots, this.random);
    return exchange(["GET", this.#key(slot)], bulk(this.#strings.get(slot)));
  }

  #increment(): Exchange {
    this.#counter += 1;
    return exchange(["INCR", this.#key("n")], `:${this.#counter}\r\n`);
  }

  #push(): Exchange {
    const value = this.#value();
    return exchange(["LPUSH", this.#key("l"), value], `:${this.#list.unshift(value)}\r\n`);
  }

  #pop(): Exchange {
    return exchange(["RPOP", this.#key("l")], bulk(this.#list.pop()));
  }

  #setField(): Exchange {
    const field = pick(slots, this.random);
    const added = this.#hash.has(field) ? 0 : 1;
    const value = this.#value();
    this.#hash.set(field, value);
    return exchange(["HSET", this.#key("h"), `f${field}`, value], `:${added}\r\n`);
  }

  #getField(): Exchange {
    const field = pick(slots, this.random);
    return exchange(["HGET", this.#key("h"), `f${field}`], bulk(this.#hash.get(field)));
  }

  #getMany(): Exchange {
    const chosen = [pick(slots, this.random), pick(slots, this.random), pick(slots, this.random)];
    const values = chosen.map((slot) => bulk(this.#strings.get(slot)));
    return exchange(["MGET", ...chosen.map((slot) => this.#key(slot))], `*${values.length}\r\n${values.join("")}`);
  }

  #key(name: number | string): string {
    return `${this.prefix}:${this.client}:${name}`;
  }

  #value(): string {
    this.#sequence += 1;
    return checkedValue(this.client, this.#sequence, this.random);
  }
}

const exchange = (words: readonly string[], expected: string): Exchange => ({
  request: encodeCommand(words),
  expected: bytesOf(expected),
});

const bulk = (value: string | undefined): string =>
  value === undefined ? "$-1\r\n" : `$${value.length}\r\n${value}\r\n`;
