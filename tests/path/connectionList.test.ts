// SPDX-License-Identifier: Apache-2.0
/** The guest kit's list of connections, from guests that give it well, in pieces, late, without an end, or not at all. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { answerBytesMax, ConnectionList } from "#monitor/guest/connectionList.ts";

const top = mkdtempSync(join(tmpdir(), "cl-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
/** Of the usual patience: nobody waits half a second for what does not come. */
const hurry = 0.2;
const patient = 60;
const never = new AbortController().signal;

/** A guest's vsock that does `answer` for each question; without it nobody listens there. */
function guest(name: string, answer?: (socket: Bun.Socket<undefined>) => void): Disposable & { readonly path: string } {
  const path = join(top, name);
  const server = Bun.listen<undefined>({
    unix: path,
    socket: {
      data: (socket, bytes) => {
        if (!String(bytes).startsWith("CONNECT")) answer?.(socket);
        else if (answer === undefined) socket.end();
        else socket.write("OK 1\n");
      },
    },
  });
  return { path, [Symbol.dispose]: () => server.stop(true) };
}

test("answers are told apart, however they come", async () => {
  let asked = 0;
  using vsock = guest("well", (socket) => {
    asked += 1;
    socket.write(`a 1 line ${asked}\nanother.`);
    void systemClock.sleep(5).then(() => socket.write("\n.\n"));
  });
  await using list = await ConnectionList.open(vsock.path, silentLog, never);
  expect(await list!.ask(patient)).toBe("\na 1 line 1\nanother.\n.\n");
  expect(await list!.ask(patient)).toBe("\na 1 line 2\nanother.\n.\n");
});

test("two that ask at once get an answer each, in order", async () => {
  let asked = 0;
  using vsock = guest("twice", (socket) => {
    asked += 1;
    const mine = asked;
    void systemClock.sleep(5).then(() => socket.write(`list ${mine}\n.\n`));
  });
  await using list = await ConnectionList.open(vsock.path, silentLog, never);
  expect(await Promise.all([list!.ask(patient), list!.ask(patient)])).toEqual(["\nlist 1\n.\n", "\nlist 2\n.\n"]);
});

test("a guest with no connections at all", async () => {
  using vsock = guest("none", (socket) => void socket.write(".\n"));
  await using list = await ConnectionList.open(vsock.path, silentLog, never);
  expect(await list!.ask(patient)).toBe("\n.\n");
});

test("who answers late is not asked again: the answer would be that to an earlier question", async () => {
  let asked = 0;
  using vsock = guest("late", () => {
    asked += 1;
  });
  await using list = await ConnectionList.open(vsock.path, silentLog, never);
  expect(await list!.ask(hurry)).toBeNull();
  expect(await list!.ask(hurry)).toBeNull();
  expect(asked).toBe(1);
});

test("an answer without an end is not kept", async () => {
  using vsock = guest("endless", (socket) => {
    const line = Buffer.alloc(1 << 16, "x");
    const more = (): void => {
      if (socket.write(line) >= 0 && socket.readyState > 0) void systemClock.sleep(0).then(more);
    };
    more();
  });
  await using list = await ConnectionList.open(vsock.path, silentLog, never);
  expect(await list!.ask(patient)).toBeNull();
  expect(answerBytesMax).toBeLessThan(16 << 20);
});

test("a guest that hangs up, and one without such a kit", async () => {
  using gone = guest("gone", (socket) => void socket.end());
  await using list = await ConnectionList.open(gone.path, silentLog, never);
  expect(await list!.ask(patient)).toBeNull();
  using bare = guest("bare");
  expect(await ConnectionList.open(bare.path, silentLog, never)).toBeNull();
});
