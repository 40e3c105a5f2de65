// SPDX-License-Identifier: Apache-2.0
/**
 * The transports with real FIFOs and sockets: a stub that takes nothing, leaves, or hides behind a hypervisor's socket;
 * and the description that a real AArch64 stub sends.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deadline, systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { encodePacket, FrameDecoder } from "#monitor/gdb/frame.ts";
import { parseXfer } from "#monitor/gdb/messages.ts";
import { readDescription } from "#monitor/gdb/registers.ts";
import { openFifos, openSocket, queueBytesMax, type Transport } from "#monitor/gdb/transport.ts";
import { FakeStub } from "#tests/peers/fakeStub.ts";
import { need } from "#tests/skip.ts";
import { x86Documents } from "#tests/unit/monitor/gdb/vectors.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-transport-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function makeFifos(): { inPath: string; outPath: string } {
  const [inPath, outPath] = [join(scratch, "in"), join(scratch, "out")];
  expect(Bun.spawnSync(["mkfifo", inPath, outPath]).success).toBe(true);
  return { inPath, outPath };
}

function codeOf(call: () => unknown): string {
  try {
    call();
    return "none";
  } catch (error) {
    return error instanceof GdbError ? error.code : String(error);
  }
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  const outcome = await promise.then(
    () => new TypeError("no error"),
    (error: unknown) => error,
  );
  return outcome instanceof GdbError ? outcome.code : String(outcome);
}

test("FIFOs: without a reader there is no transport", () => {
  const { inPath, outPath } = makeFifos();
  expect(codeOf(() => openFifos(inPath, outPath, systemClock))).toBe("gdb.closed");
  expect(codeOf(() => openFifos(join(scratch, "none"), outPath, systemClock))).toBe("gdb.closed");
});

test("FIFOs: what the reader does not take at once comes later, in order; too much is an error, never a wait", async () => {
  const { inPath, outPath } = makeFifos();
  const stub = openSync(inPath, constants.O_RDWR | constants.O_NONBLOCK);
  const output = openSync(outPath, constants.O_RDWR | constants.O_NONBLOCK);
  await using transport = openFifos(inPath, outPath, systemClock);
  const piece = Array.from({ length: 1000 }, (_, index) => `${index} `).join("");
  let written = "";
  while (written.length < queueBytesMax) {
    transport.write(piece);
    written += piece;
  }
  let read = "";
  const buffer = Buffer.alloc(65_536);
  while (read.length < written.length) {
    try {
      read += buffer.toString("latin1", 0, readSync(stub, buffer));
    } catch {
      await systemClock.sleep(1); // Empty: the transport tries again by itself.
    }
  }
  expect(read).toBe(written);
  expect(
    codeOf(() => {
      for (let index = 0; index < 1000; index += 1) transport.write(piece);
    }),
  ).toBe("gdb.closed");
  closeSync(stub);
  closeSync(output);
});

test("FIFOs: a stub that leaves ends the stream, and writing to it is an error", async () => {
  const { inPath, outPath } = makeFifos();
  const stub = Bun.spawn(["/bin/sh", "-c", 'exec cat 0<>"$1" 1<>"$2"', "sh", inPath, outPath], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  const output = openSync(outPath, constants.O_RDWR | constants.O_NONBLOCK);
  const transport = await opened(inPath, outPath);
  transport.write("hello");
  const chunks = transport.incoming[Symbol.asyncIterator]();
  expect(Buffer.from((await chunks.next()).value!).toString()).toBe("hello");
  closeSync(output);
  stub.kill("SIGKILL");
  await stub.exited;
  expect((await chunks.next()).done).toBe(true);
  expect(codeOf(() => transport.write("more"))).toBe("gdb.closed");
  await transport[Symbol.asyncDispose]();
});

async function opened(inPath: string, outPath: string): Promise<Transport> {
  for (let tries = 0; ; tries += 1) {
    try {
      return openFifos(inPath, outPath, systemClock);
    } catch (error) {
      if (tries > 5000) throw error;
      await systemClock.sleep(1);
    }
  }
}

/** A fake stub behind a unix socket; with `greeting`, behind a hypervisor's that first answers CONNECT with it. */
function serve(path: string, greeting: string | null): Disposable & { stub: FakeStub; asked: string[] } {
  const stub = new FakeStub(7, [7, 8], x86Documents);
  const asked: string[] = [];
  let greeted = greeting === null;
  const server = Bun.listen({
    unix: path,
    socket: {
      open: (socket) =>
        stub.serve(
          (bytes) => socket.write(Buffer.from(bytes, "latin1")),
          () => socket.end(),
        ),
      data: (socket, chunk) => {
        if (greeted) {
          stub.receive(chunk);
          return;
        }
        asked.push(chunk.toString());
        greeted = true;
        socket.write(greeting!);
      },
    },
  });
  return { stub, asked, [Symbol.dispose]: () => server.stop(true) };
}

test.each([null, 1234])("a unix socket, port %p: attach, stop all, resume", async (port) => {
  const path = join(scratch, "socket");
  using server = serve(path, port === null ? null : "OK 1073741824\n");
  await using client = await GdbClient.open(await openSocket(path, { port }), { clock: systemClock, log: silentLog });
  expect(await client.attach(7)).toHaveLength(2);
  await client.resumeAll();
  expect(server.stub.resumed).toHaveLength(2);
  expect(server.asked).toEqual(port === null ? [] : ["CONNECT 1234\n"]);
  server.stub.hangUp();
  expect(await rejection(client.stops().next())).toBe("gdb.closed");
});

test("a socket that is not there, or a port that is refused, is a typed error", async () => {
  const path = join(scratch, "socket");
  expect(await rejection(openSocket(path))).toBe("gdb.closed");
  for (const greeting of ["connection refused\n", "x".repeat(1000), "OK\n"]) {
    using _ = serve(path, greeting);
    expect(await rejection(openSocket(path, { port: 1 }))).toBe("gdb.closed");
    rmSync(path, { force: true });
  }
});

need("qemu-aarch64-static", "aarch64-linux-gnu-gcc")(
  "a real AArch64 stub's description, includes and all, can be used",
  async () => {
    const [binary, socket] = [join(scratch, "main"), join(scratch, "socket")];
    const compiler = Bun.spawn(["aarch64-linux-gnu-gcc", "-static", "-x", "c", "-o", binary, "-"], {
      stdin: new Blob(["int main(void){return 0;}\n"]),
    });
    expect(await compiler.exited).toBe(0);
    const qemu = Bun.spawn(["qemu-aarch64-static", "-g", socket, binary], { stdio: ["ignore", "ignore", "ignore"] });
    try {
      await using transport = await connected(socket);
      const documents = new Map<string, string>();
      const ask = asker(transport);
      await ask("qSupported:multiprocess+");
      let description = readDescription(documents);
      while (description.kind === "missing") {
        documents.set(description.document, await readWhole(ask, `qXfer:features:read:${description.document}`));
        description = readDescription(documents);
      }
      expect(description.layout.architecture).toBe("aarch64");
      expect(documents.size).toBeGreaterThan(1);
      // The stack pointer of a program that has not begun.
      const raw = Buffer.from(await ask("g"), "hex");
      expect(raw.length).toBeGreaterThanOrEqual(description.layout.neededBytes);
      expect(raw.readBigUInt64LE(description.layout.general[31]!.offset)).toBeGreaterThan(0xffffn);
    } finally {
      qemu.kill("SIGKILL");
      await qemu.exited;
    }
  },
);

async function connected(socket: string): Promise<Transport> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await openSocket(socket);
    } catch (error) {
      if (tries > 5000) throw error;
      await systemClock.sleep(1);
    }
  }
}

function asker(transport: Transport): (packet: string) => Promise<string> {
  const chunks = transport.incoming[Symbol.asyncIterator]();
  const decoder = new FrameDecoder();
  return async (packet) => {
    using limit = deadline(10_000, () => new TypeError(`no reply to ${packet}`));
    transport.write(`+${encodePacket(packet)}`);
    for (;;) {
      limit.signal.throwIfAborted();
      const { done, value } = await chunks.next();
      if (done) throw new TypeError("the stub has ended");
      for (const frame of decoder.push(value)) if (frame.kind === "packet") return frame.text;
    }
  };
}

async function readWhole(ask: (packet: string) => Promise<string>, object: string): Promise<string> {
  for (let text = ""; ; ) {
    const piece = parseXfer(await ask(`${object}:${text.length.toString(16)},800`));
    text += piece.binary;
    if (piece.last) return text;
  }
}
