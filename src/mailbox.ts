// SPDX-License-Identifier: Apache-2.0
/**
 * Messages to a Worker that blocks its own thread. They go by a port of their own, and each is announced by a shared word:
 * the Worker sleeps on that word, since a thread that is woken so is there 20 µs before one that waits in an event loop, and a
 * turn of that loop costs 0.6 ms (both measured). Gets messages at one end; gives them at the other, in order.
 */
import { type MessagePort as NodePort, receiveMessageOnPort } from "node:worker_threads";

/** One end: where messages come in, and the word that counts them. Travels to a Worker with `port` in its transfer list. */
export type Mailbox = { readonly port: MessagePort; readonly calls: Int32Array };

/** Our end, and the Worker's. */
export function openMailbox(): readonly [ours: Mailbox, theirs: Mailbox] {
  const { port1, port2 } = new MessageChannel();
  const calls = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  return [
    { port: port1, calls },
    { port: port2, calls },
  ];
}

export function post(mailbox: Mailbox, message: unknown): void {
  mailbox.port.postMessage(message);
  announce(mailbox);
}

/** Wakes the Worker, message or none. */
export function announce({ calls }: Mailbox): void {
  Atomics.add(calls, 0, 1);
  Atomics.notify(calls, 0);
}

/** How often it was announced. Read before messages are taken: one that comes in between ends the next sleep at once. */
export const callsOf = ({ calls }: Mailbox): number => Atomics.load(calls, 0);

/** The next message; null where there is none. Does not block. */
export function take(mailbox: Mailbox): { readonly message: unknown } | null {
  return receiveMessageOnPort(mailbox.port as unknown as NodePort) ?? null;
}

/** Blocks this thread until it is announced once more than `seen`, or `patienceMs` is over: false. For Workers only. */
export const waitForCall = ({ calls }: Mailbox, seen: number, patienceMs: number): boolean =>
  Atomics.wait(calls, 0, seen, patienceMs) !== "timed-out";
