// SPDX-License-Identifier: Apache-2.0
/**
 * A Worker that takes a local migration as it comes, looks at nothing and declines it: how long a guest must stand still at
 * least. Gets the path to listen at; tells `listening` and `declined`.
 */
import { rmSync } from "node:fs";
import { closeDescriptor, UnixListener } from "#board/native/unixStream.ts";
import { MigrationReceiver } from "#vm/offload/receiver.ts";

declare const self: Worker;
const connectMsMax = 10_000;

self.onmessage = (event: MessageEvent<string>): void => {
  rmSync(event.data, { force: true });
  using listener = new UnixListener(event.data);
  self.postMessage("listening");
  using stream = listener.accept(connectMsMax);
  const receiver = new MigrationReceiver(stream);
  for (;;) {
    const { command, lengthBytes } = receiver.next();
    if (command === "complete") break;
    if (command === "memoryFd") closeDescriptor(receiver.memoryFile().descriptor);
    else if (lengthBytes > 0) receiver.payload(new Uint8Array(lengthBytes));
    receiver.accept();
  }
  receiver.decline();
  self.postMessage("declined");
};
