// SPDX-License-Identifier: Apache-2.0
/**
 * A Worker that does one flush for each message it gets and answers: what a durable event costs when another thread is asked
 * for it and nothing else is done. The first message is the path of its file, which is made with real blocks.
 */
import { fdatasyncSync, fsyncSync, openSync, writeSync } from "node:fs";

declare const self: Worker;

const frame = new Uint8Array(4120).fill(7);
const frames = 900;
let descriptor = -1;
let count = 0;

self.onmessage = (event: MessageEvent<unknown>): void => {
  if (descriptor < 0) {
    descriptor = openSync(String(event.data), "w+");
    writeSync(descriptor, new Uint8Array(4 * 1024 * 1024));
    fsyncSync(descriptor);
  } else {
    writeSync(descriptor, frame, 0, frame.length, (count++ % frames) * frame.length);
    fdatasyncSync(descriptor);
  }
  self.postMessage(event.data);
};
