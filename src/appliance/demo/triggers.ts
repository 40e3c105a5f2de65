// SPDX-License-Identifier: Apache-2.0
/**
 * Real crash commands of stock servers, as data: what to send, what it does to an unguarded server, where it is documented.
 *
 * Each was sent to the stock Debian 12 packages (redis 7.0.15-1~deb12u10, memcached 1.6.18-1+deb12u1, x86-64) and ended the
 * process by the signal given. A newer package may have it fixed: then the server answers and no fault is seen.
 */
import type { FatalSignal } from "#fault.ts";
import { frameMemcached, frameResp } from "./framing.ts";
import { type Killing, speak } from "./killer.ts";
import { encodeCommand } from "./redisTraffic.ts";
import { bytesOf } from "./traffic.ts";

export type Trigger = {
  readonly program: "redis-server" | "memcached";
  /** Short, unique, typed by users. */
  readonly name: string;
  /** The pull request, issue or commit that fixed it, or "built in". */
  readonly upstream: string;
  readonly what: string;
  /** What the server must have been started with for this to work. */
  readonly serverArguments: readonly string[];
  /** Address space limit under which alone it crashes; null where it always does. */
  readonly addressBytesMax: number | null;
  /** The signal that ends the unguarded program. */
  readonly signal: FatalSignal;
  /**
   * Sends it on connections of its own. `shot` numbers the uses on one server, so that names do not meet; `enough` ends the
   * wait for an answer.
   */
  send(port: number, shot: number, enough?: AbortSignal): Promise<Killing>;
};

/** How long a guilty client waits for an answer before it is called silent. */
const answerMsMax = 1_500;
const debugCommand = ["--enable-debug-command", "local"] as const;

export const triggers: readonly Trigger[] = [
  debugTrigger("segfault", "SEGFAULT", "SIGSEGV", "writes through a bad pointer"),
  debugTrigger("assert", "ASSERT", "SIGABRT", "fails an assertion"),
  debugTrigger("panic", "PANIC", "SIGABRT", "panics"),
  debugTrigger("oom", "OOM", "SIGABRT", "asks the allocator for half of the address space"),
  {
    program: "redis-server",
    name: "acl-use-after-free",
    upstream: "redis #13274",
    what: "a subscriber takes its own channel away and is freed while its command runs",
    serverArguments: [],
    addressBytesMax: null,
    signal: "SIGSEGV",
    send: sendAclUseAfterFree,
  },
  {
    program: "redis-server",
    name: "getkeys-overflow",
    upstream: "redis #13380",
    what: "a key count that overflows asks for 8 GB under a limit of 3 GiB",
    serverArguments: [],
    addressBytesMax: 3 * 1024 ** 3,
    signal: "SIGABRT",
    send: (port, _, enough) =>
      speakRedis(port, [["COMMAND", "GETKEYSANDFLAGS", "ZINTERSTORE", "zz", "1443677133621497600", "asdf"]], enough),
  },
  {
    program: "memcached",
    name: "auth-token-length",
    upstream: "memcached 9981d748f",
    what: "an unauthenticated client announces a token of 2 GB",
    serverArguments: ["-Y", "authfile"],
    addressBytesMax: null,
    signal: "SIGSEGV",
    send: (port, _, enough) =>
      speak(port, frameMemcached, [bytesOf("set foo 0 0 2147483646\r\n")], { answerMsMax, enough }),
  },
];

/** The triggers of one program, in the order of the list. */
export const triggersOf = (program: Trigger["program"]): readonly Trigger[] =>
  triggers.filter((trigger) => trigger.program === program);

function debugTrigger(name: string, word: string, signal: FatalSignal, what: string): Trigger {
  return {
    program: "redis-server",
    name,
    upstream: "built in",
    what,
    serverArguments: debugCommand,
    addressBytesMax: null,
    signal,
    send: (port, _, enough) => speakRedis(port, [["DEBUG", word]], enough),
  };
}

/** One client makes a user; another logs in as it over RESP3, subscribes, and revokes its own channel. */
async function sendAclUseAfterFree(port: number, shot: number, enough?: AbortSignal): Promise<Killing> {
  const user = `crash${shot}`;
  const rights = ["+acl", "+hello", "+auth", "+subscribe"];
  await using _administrator = await speakRedis(port, [
    ["ACL", "SETUSER", user, "on", ">word", "resetchannels", "&room", ...rights],
  ]);
  const attack = [
    ["HELLO", "3", "AUTH", user, "word"],
    ["SUBSCRIBE", "room"],
    ["ACL", "SETUSER", user, "resetchannels"],
  ];
  return await speakRedis(port, attack, enough);
}

const speakRedis = (port: number, commands: readonly string[][], enough?: AbortSignal): Promise<Killing> =>
  speak(port, frameResp, commands.map(encodeCommand), { answerMsMax, enough });
