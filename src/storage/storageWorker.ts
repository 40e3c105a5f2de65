// SPDX-License-Identifier: Apache-2.0
/**
 * The storage Worker: the only thread with connections that write (checkpoint pages have a Worker of their own). Gets
 * numbered messages, answers each with its number; what it does is in writer.ts.
 *
 * After each message it blocks its thread for the next one, up to `lingerMs`: then it is quiet, and the event loop has it.
 */
import { systemClock } from "#clock.ts";
import { callsOf, type Mailbox, take, waitForCall } from "#mailbox.ts";
import type { FromWriter, ToWriter } from "./messages.ts";
import { Writer } from "./writer.ts";
import { type Numbered, readPosted } from "./writerPort.ts";

declare const self: Worker;

const lingerMs = 1_000;
const writer = new Writer(systemClock);

self.onmessage = ({ data: mailbox }: MessageEvent<Mailbox>): void => {
  mailbox.port.onmessage = (event: { readonly data: Numbered<ToWriter> | string }): void => {
    answer(event.data);
    answerMore(mailbox);
  };
};

function answer(posted: Numbered<ToWriter> | string): void {
  const { number, message } = readPosted(posted);
  self.postMessage({ number, message: writer.answer(message) } satisfies Numbered<FromWriter>);
}

function answerMore(mailbox: Mailbox): void {
  for (;;) {
    const seen = callsOf(mailbox);
    const next = take(mailbox);
    if (next !== null) answer(next.message as Numbered<ToWriter> | string);
    else if (!waitForCall(mailbox, seen, lingerMs)) return;
  }
}
