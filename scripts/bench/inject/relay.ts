// SPDX-License-Identifier: Apache-2.0
/**
 * A program to be found as `gdbserver`: runs the real one and passes all bytes on, but for what an injector does between.
 *
 * Gets the arguments and the standard streams of gdbserver, the path of the real one and of the bench's socket in the
 * environment. Ends with the real one, and ends it when it is told to end itself. Without a socket it only passes on.
 */
import { constants, openSync, writeSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { assert } from "#errors.ts";
import { Injector } from "./injector.ts";
import { decodeLine, encodeLine, Lines, type Order } from "./orders.ts";
import { realStubVariable, relaySocketVariable } from "./relayPlace.ts";
import { RelayStream } from "./relayStream.ts";

const real = process.env[realStubVariable];
const socketPath = process.env[relaySocketVariable];
assert(real !== undefined, `${realStubVariable} must name the real gdbserver`);
if (!process.argv.includes("--multi")) {
  const child = Bun.spawn([real, ...process.argv.slice(2)], { stdio: ["inherit", "inherit", "inherit"] });
  process.exit(await child.exited);
}
await relay(real, process.argv.slice(2));

async function relay(program: string, words: readonly string[]): Promise<void> {
  const child = Bun.spawn([program, ...words], { stdio: ["pipe", "pipe", "inherit"] });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => child.kill(signal));
  const lines: string[] = [];
  let send = (line: string): void => void lines.push(line);
  const stream: RelayStream = new RelayStream({
    toStub: (text) => {
      child.stdin.write(Buffer.from(text, "latin1"));
      child.stdin.flush();
    },
    toClient: (text) => writeAll(1, Buffer.from(text, "latin1")),
    stopped: (reply) => injector.stopped(reply),
    asked: (request) => injector.asked(request),
  });
  const injector = new Injector(
    { ask: (requests) => stream.ask(requests), offer: (reply) => stream.offer(reply) },
    (report) => send(encodeLine(report)),
  );
  if (socketPath !== undefined) {
    const socket = await connect(socketPath, (order) => injector.obey(order));
    send = (line) => void socket.write(line);
    send(encodeLine({ report: "ready" }));
    for (const line of lines) send(line);
  }
  void pump(await inputOf(0), (text) => stream.fromClient(text));
  await pump(child.stdout, (text) => {
    follow(child.pid);
    stream.fromStub(text);
  });
  injector.close();
  process.exit(await child.exited);
}

async function connect(path: string, obey: (order: Order) => void): Promise<Bun.Socket<undefined>> {
  const lines = new Lines();
  return await Bun.connect({
    unix: path,
    socket: {
      data: (_, bytes) => {
        for (const line of lines.push(Buffer.from(bytes).toString())) obey(decodeLine<Order>(line));
      },
      close: () => {},
    },
  });
}

/** A FIFO is opened anew, so that reading it never blocks us; anything else is read as it is. */
async function inputOf(fd: number): Promise<ReadableStream<Uint8Array>> {
  return Bun.file(openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK)).stream();
}

async function pump(from: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  for await (const chunk of from) take(Buffer.from(chunk).toString("latin1"));
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let sent = 0; sent < bytes.length; ) sent += writeSync(fd, bytes, sent);
}

/** The supervisor puts its stub before ordinary programs; the real one must not fall behind. */
function follow(pid: number): void {
  try {
    if (getPriority(pid) !== getPriority(0)) setPriority(pid, getPriority(0));
  } catch {
    // It has just ended, or we may not: then stops take a little longer.
  }
}
