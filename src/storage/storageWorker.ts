// SPDX-License-Identifier: Apache-2.0
/**
 * The storage Worker: the only thread with connections that write (checkpoint pages have a Worker of their own). Gets
 * numbered messages, answers each with its number; what it does is in writer.ts.
 */
import { systemClock } from "#clock.ts";
import type { FromWriter, ToWriter } from "./messages.ts";
import { Writer } from "./writer.ts";
import { type Numbered, readPosted } from "./writerPort.ts";

declare const self: Worker;

const writer = new Writer(systemClock);

self.onmessage = (event: MessageEvent<Numbered<ToWriter> | string>): void => {
  const { number, message } = readPosted(event.data);
  self.postMessage({ number, message: writer.answer(message) } satisfies Numbered<FromWriter>);
};
