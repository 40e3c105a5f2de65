// SPDX-License-Identifier: Apache-2.0
/**
 * Checked talk of one client with a MariaDB server: a row and a ledger of its own, changed and read back, and the framing of
 * the answers. What a client was told is done must be there at its next question.
 *
 * The text protocol without TLS and without a password (the server runs with `--skip-grant-tables`): so the client may log in
 * before it has read the greeting. Source: the MariaDB client/server protocol, "Connecting" and "COM_QUERY".
 */
import type { Framing } from "#appliance/demo/framing.ts";
import { bytesOf, type Traffic, type TrafficMaker, textOf } from "#appliance/demo/traffic.ts";
import { type Random, seededRandom } from "#clock.ts";

/** Run by the server before it lets anybody in. */
export const mysqlSchema = [
  "CREATE DATABASE IF NOT EXISTS shop;",
  "CREATE TABLE shop.account (owner VARCHAR(32) PRIMARY KEY, balance BIGINT NOT NULL, note TEXT) ENGINE=InnoDB;",
  "CREATE TABLE shop.ledger (owner VARCHAR(32) NOT NULL, entry INT NOT NULL, amount INT NOT NULL,",
  "  PRIMARY KEY (owner, entry)) ENGINE=InnoDB;",
].join("\n");

const headBytes = 4;
const [okMark, greetingMark, endMark, errorMark] = [0x00, 0x0a, 0xfe, 0xff];
/** Longer ones that begin with `endMark` are rows. */
const endBytesMax = 9;
const packetBytesMax = 1 << 20;
/** Protocol 4.1, authentication by plugin's successor of it, and a schema named at once. */
const capabilities = 0x0000_0200 | 0x0000_8000 | 0x0000_0008;
const charset = 45;
const query = 3;

type Packet = { readonly sequence: number; readonly payload: Uint8Array };

/** The packets of one answer; `null` where it is not whole yet, "garbled" where it is no answer. */
function packetsOf(bytes: Uint8Array, from: number, to: number): { packets: Packet[]; end: number } | null | "garbled" {
  const packets: Packet[] = [];
  for (let at = from; at + headBytes <= to; ) {
    const lengthBytes = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    const [sequence, end] = [bytes[at + 3]!, at + headBytes + lengthBytes];
    const first = packets[0];
    if (lengthBytes > packetBytesMax || lengthBytes === 0) return "garbled";
    if (first !== undefined && sequence !== expectedAfter(packets)) return "garbled";
    if (end > to) return null;
    packets.push({ sequence, payload: bytes.subarray(at + headBytes, end) });
    at = end;
    if (isWhole(packets)) return { packets, end };
  }
  return null;
}

/** The client's own login is a packet in between. */
const expectedAfter = (packets: readonly Packet[]): number =>
  (packets.at(-1)!.sequence + (packets.length === 1 && isGreeting(packets[0]!) ? 2 : 1)) & 0xff;
const isGreeting = ({ sequence, payload }: Packet): boolean => sequence === 0 && payload[0] === greetingMark;
const isEnd = ({ payload }: Packet): boolean => payload[0] === endMark && payload.length < endBytesMax;

function isWhole(packets: readonly Packet[]): boolean {
  const [first, last] = [packets[0]!, packets.at(-1)!];
  if (isGreeting(first)) return packets.length === 2;
  if (first.payload[0] === okMark || last.payload[0] === errorMark) return true;
  return packets.filter(isEnd).length === 2;
}

export const frameMysql: Framing = (bytes, from, to) => {
  const answer = packetsOf(bytes, from, to);
  return answer === null ? "more" : answer === "garbled" ? "garbled" : answer.end;
};

/** What must be equal: that it is done and for how many rows, or the rows. */
export function essenceOfMysql(answer: Uint8Array): string {
  const read = packetsOf(answer, 0, answer.length);
  if (read === null || read === "garbled") return "no answer";
  const { packets } = read;
  const [first, second] = packets;
  if (isGreeting(first!)) return second!.payload[0] === okMark ? "let in" : "refused";
  if (first!.payload[0] === okMark) return `done ${first!.payload[1]}`;
  if (packets.at(-1)!.payload[0] === errorMark) return "refused";
  const rows = packets.slice(packets.findIndex(isEnd) + 1, -1);
  return rows.map(({ payload }) => textOf(payload)).join("\n");
}

export const refusedByMysql = (answer: Uint8Array): boolean => essenceOfMysql(answer) === "refused";

const packet = (sequence: number, payload: Uint8Array): Uint8Array => {
  const { length } = payload;
  return Buffer.concat([Buffer.from([length & 0xff, (length >> 8) & 0xff, length >> 16, sequence]), payload]);
};
const end = Buffer.from([endMark, 0, 0, 2, 0]);
const done = (rows: number): Uint8Array => packet(1, Buffer.from([okMark, rows, 0, 2, 0, 0, 0]));

/** A result of one row, as far as `essenceOfMysql` looks. */
function rowOf(...fields: readonly string[]): Uint8Array {
  const row = Buffer.concat(fields.map((field) => Buffer.concat([Buffer.from([field.length]), bytesOf(field)])));
  return Buffer.concat([
    packet(1, Buffer.from([1])),
    packet(2, Buffer.from([3])),
    packet(3, end),
    packet(4, row),
    packet(5, end),
  ]);
}

const asked = (text: string): Uint8Array => packet(0, Buffer.concat([Buffer.from([query]), bytesOf(text)]));

function login(): Uint8Array {
  const head = Buffer.alloc(32);
  head.writeUInt32LE(capabilities, 0);
  head.writeUInt32LE(packetBytesMax, 4);
  head[8] = charset;
  return packet(1, Buffer.concat([head, bytesOf("root\0"), Buffer.from([0]), bytesOf("shop\0")]));
}

export const mysqlTraffic: TrafficMaker = (client, random, prefix) => new MysqlTraffic(`${prefix}${client}`, random);

class MysqlTraffic implements Traffic {
  #step = -2;
  #balance = 0;
  #entries = 0;
  #total = 0;
  #note = "";

  constructor(
    private readonly owner: string,
    private readonly random: Random,
  ) {}

  next(): { request: Uint8Array; expected: Uint8Array } {
    this.#step += 1;
    if (this.#step === -1) {
      const greeting = packet(0, Buffer.from([greetingMark]));
      return { request: login(), expected: Buffer.concat([greeting, packet(2, Buffer.from([okMark]))]) };
    }
    if (this.#step === 0) {
      return { request: asked(`INSERT INTO account VALUES ('${this.owner}', 0, '')`), expected: done(1) };
    }
    return [() => this.#pay(), () => this.#book(), () => this.#read(), () => this.#sum()][this.#step % 4]!();
  }

  #pay(): { request: Uint8Array; expected: Uint8Array } {
    const amount = 1 + Math.floor(this.random() * 99);
    this.#balance += amount;
    this.#note = Math.floor(seededRandom(this.#balance)() * 1e9).toString(36);
    const change = `balance = balance + ${amount}, note = '${this.#note}'`;
    return { request: asked(`UPDATE account SET ${change} WHERE owner = '${this.owner}'`), expected: done(1) };
  }

  #book(): { request: Uint8Array; expected: Uint8Array } {
    const amount = Math.floor(this.random() * 1000);
    this.#entries += 1;
    this.#total += amount;
    const values = `('${this.owner}', ${this.#entries}, ${amount})`;
    return { request: asked(`INSERT INTO ledger VALUES ${values}`), expected: done(1) };
  }

  #read(): { request: Uint8Array; expected: Uint8Array } {
    const request = asked(`SELECT balance, note FROM account WHERE owner = '${this.owner}'`);
    return { request, expected: rowOf(String(this.#balance), this.#note) };
  }

  #sum(): { request: Uint8Array; expected: Uint8Array } {
    const request = asked(`SELECT COUNT(*), COALESCE(SUM(amount), 0) FROM ledger WHERE owner = '${this.owner}'`);
    return { request, expected: rowOf(String(this.#entries), String(this.#total)) };
  }
}
