// SPDX-License-Identifier: Apache-2.0
/**
 * The bench's end of a relay: a directory with a program named `gdbserver` in it, and a socket that the relay comes to.
 *
 * Gets nothing but a place for its files; gives the search path on which the relay is found first, sends orders and waits
 * for reports. One relay at a time.
 */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deadline } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { decodeLine, encodeLine, Lines, type Order, type Report } from "./orders.ts";

export const relaySocketVariable = "HOLDFAST_RELAY_SOCKET";
export const realStubVariable = "HOLDFAST_REAL_GDBSERVER";

const readyMsMax = 20_000;

export class RelayPlace implements AsyncDisposable {
  readonly reports: Report[] = [];
  #relay: Bun.Socket<undefined> | null = null;
  #wake = Promise.withResolvers<void>();
  #listener: Bun.UnixSocketListener<undefined> | null = null;

  private constructor(
    private readonly directory: string,
    /** Path of the program that stands in for gdbserver. */
    readonly program: string,
    /** A PATH on which it is found before the real one. */
    readonly searchPath: string,
  ) {}

  /** @throws ProgramError "program.notFound" where there is no gdbserver */
  static async open(): Promise<RelayPlace> {
    const real = Bun.which("gdbserver");
    if (real === null) throw new ProgramError("program.notFound", "gdbserver is not installed");
    const directory = await mkdtemp(join(tmpdir(), "holdfast-relay-"));
    const program = join(directory, "gdbserver");
    const settings = `${relaySocketVariable}='${join(directory, "socket")}' ${realStubVariable}='${real}'`;
    const command = `'${process.execPath}' '${join(import.meta.dir, "relay.ts")}' "$@"`;
    await writeFile(program, `#!/bin/sh\n${settings} exec ${command}\n`);
    await chmod(program, 0o755);
    const place = new RelayPlace(directory, program, `${directory}:${process.env.PATH ?? ""}`);
    place.#listen(join(directory, "socket"));
    return place;
  }

  send(order: Order): void {
    this.#relay?.write(encodeLine(order));
  }

  /** Waits for the relay to be there. @throws ProgramError "program.busy" */
  async ready(): Promise<void> {
    if ((await this.waitFor((report) => report.report === "ready", readyMsMax)) !== null) return;
    throw new ProgramError("program.busy", "the relay did not come up", { waitedMs: readyMsMax });
  }

  /** The first report from index `from` on that fits; null when time is up. */
  async waitFor(fits: (report: Report) => boolean, waitMsMax: number, from = 0): Promise<Report | null> {
    using late = deadline(waitMsMax, () => new DOMException("no such report", "TimeoutError"));
    const expired = Promise.withResolvers<void>();
    late.signal.addEventListener("abort", () => expired.resolve(), { once: true });
    for (let at = from; ; ) {
      for (; at < this.reports.length; at += 1) if (fits(this.reports[at]!)) return this.reports[at]!;
      if (late.signal.aborted) return null;
      await Promise.race([this.#wake.promise, expired.promise]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#relay?.end();
    this.#listener?.stop(true);
    await rm(this.directory, { recursive: true, force: true });
  }

  #listen(path: string): void {
    const lines = new Lines();
    this.#listener = Bun.listen<undefined>({
      unix: path,
      socket: {
        open: (socket) => {
          this.#relay = socket;
        },
        data: (_, bytes) => {
          for (const line of lines.push(Buffer.from(bytes).toString())) this.#take(decodeLine<Report>(line));
        },
        close: () => {
          this.#relay = null;
        },
      },
    });
  }

  #take(report: Report): void {
    this.reports.push(report);
    const woken = this.#wake;
    this.#wake = Promise.withResolvers<void>();
    woken.resolve();
  }
}
