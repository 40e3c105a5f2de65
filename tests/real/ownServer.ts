// SPDX-License-Identifier: Apache-2.0
/**
 * A server of tests/programs under guard, and one-line conversations with it. Gets the name of its source; gives its guard
 * and connections to the port that it prints.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { type Guarded, guardCommand } from "./guardedServer.ts";

/** Longer than any answer takes by far: one that has not come by then does not come. */
const silenceMs = 1500;

export type OwnServer = AsyncDisposable & { readonly guarded: Guarded; open(): Promise<Socket> };

/** `words` are the program's, `options` the guard's. @throws ProgramError where it does not compile or start */
export async function guardOwn(
  name: string,
  { words = [], options = [] }: { words?: readonly string[]; options?: readonly string[] } = {},
): Promise<OwnServer> {
  const folder = mkdtempSync(join(tmpdir(), `holdfast-${name}-`));
  const program = join(folder, name);
  const source = join(import.meta.dir, `../programs/${name}.c`);
  const built = Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, source]);
  if (!built.success) throw new ProgramError("program.unsupported", built.stderr.toString());
  const said = join(folder, "said");
  const guarded = await guardCommand(
    ...options,
    ...["--", "sh", "-c", `said="$0"; exec "$@" 2>"$said"`, said, program, ...words],
  );
  const port = Number(/port (\d+)/.exec(readFileSync(said, "utf8"))?.[1]);
  return {
    guarded,
    open: () =>
      new Promise((resolve, reject) => {
        const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
      }),
    [Symbol.asyncDispose]: async () => {
      await guarded[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

/** The answer to an order, or null where none comes. */
export function ask(socket: Socket, order: string): Promise<string | null> {
  return new Promise((resolve) => {
    const silence = new AbortController();
    systemClock.sleep(silenceMs, silence.signal).then(
      () => resolve(null),
      () => {},
    );
    socket.once("data", (bytes) => {
      silence.abort();
      resolve(bytes.toString().trim());
    });
    socket.write(order);
  });
}
