// SPDX-License-Identifier: Apache-2.0
// A server of Node.js whose own code crashes on request: GET /abort ends the process, /trap is a fault that the runtime
// lives by (WebAssembly out of bounds), anything else is answered. Its port goes into the file that it is told.
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const outOfBounds = Uint8Array.from([
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 102, 0, 0],
  ...[10, 13, 1, 11, 0, 65, 255, 255, 255, 255, 7, 40, 2, 0, 11],
]);
const trap = new WebAssembly.Instance(new WebAssembly.Module(outOfBounds)).exports.f;

function answerTo(path) {
  if (path === "/abort") process.abort();
  if (path !== "/trap") return "well";
  try {
    return String(trap());
  } catch (error) {
    return `trapped: ${error.constructor.name}`;
  }
}

const [, , portFile] = process.argv;
const server = createServer((request, response) => response.end(answerTo(request.url)));
server.listen(0, "127.0.0.1", () => {
  writeFileSync(`${portFile}.new`, String(server.address().port));
  renameSync(`${portFile}.new`, portFile);
});
