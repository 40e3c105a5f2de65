// SPDX-License-Identifier: Apache-2.0
/**
 * The storage Worker: the only thread with connections that write (checkpoint pages have a Worker of their own). Gets
 * numbered messages, answers each with its number; what it does is in writer.ts.
 *
 * After each message it blocks its thread for the next one, up to `lingerMs`: then it is quiet, and the event loop has it.
 */
import { type MessagePort as NodePort, receiveMessageOnPort } from "node:worker_threads";
import { systemClock } from "#clock.ts";
import type { FromWriter, ToWriter } from "./messages.ts";
import { Writer } from "./writer.ts";
import { type Entrance, type Numbered, readPosted } from "./writerPort.ts";

declare const self: Worker;

const lingerMs = 1_000;
const writer = new Writer(systemClock);

self.onmessage = ({ data: entrance }: MessageEvent<Entrance>): void => {
  entrance.port.onmessage = (event: { readonly data: Numbered<ToWriter> | string }): void => {
    answer(event.data);
    answerMore(entrance);
  };
};

function answer(posted: Numbered<ToWriter> | string): void {
  const { number, message } = readPosted(posted);
  self.postMessage({ number, message: writer.answer(message) } satisfies Numbered<FromWriter>);
}

function answerMore({ port, calls }: Entrance): void {
  for (;;) {
    // Read before the port is: a message that comes in between ends the sleep at once.
    const seen = Atomics.load(calls, 0);
    const next = receiveMessageOnPort(port as unknown as NodePort);
    if (next !== undefined) answer(next.message as Numbered<ToWriter> | string);
    else if (Atomics.wait(calls, 0, seen, lingerMs) === "timed-out") return;
  }
}
