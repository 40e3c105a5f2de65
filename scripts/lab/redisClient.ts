// SPDX-License-Identifier: Apache-2.0
/**
 * Clients of the guest's redis, from outside the guest: one that asks, and bystanders that check every answer.
 */
import { deadline, systemClock } from "#clock.ts";
import { LabError } from "./labError.ts";

/** redis tests all of its memory after some of its crashes, here under two emulations. */
const answerMs = 300_000;

/** One connection, inline commands, one answer at a time. */
export class RedisClient implements Disposable {
  #socket: Bun.Socket | null = null;
  #text = "";
  #closed = false;
  #arrived = Promise.withResolvers<void>();

  static async connect(hostname: string, port = 6379): Promise<RedisClient> {
    const client = new RedisClient();
    const wake = (): void => {
      client.#arrived.resolve();
      client.#arrived = Promise.withResolvers<void>();
    };
    const close = (): void => {
      client.#closed = true;
      wake();
    };
    client.#socket = await Bun.connect({
      hostname,
      port,
      socket: {
        data: (_, bytes) => {
          client.#text += Buffer.from(bytes).toString("latin1");
          wake();
        },
        close,
        error: close,
      },
    });
    return client;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Simple, integer and error answers as a line; bulk answers as their text. @throws LabError where it is closed or late */
  async ask(command: string): Promise<string> {
    using limit = deadline(answerMs, () => new LabError("lab.machine", `no answer to ${command}`));
    limit.signal.addEventListener("abort", () => this.#arrived.resolve(), { once: true });
    this.#socket!.write(`${command}\r\n`);
    for (;;) {
      const answer = this.#take();
      if (answer !== null) return answer;
      if (this.#closed) throw new LabError("lab.machine", `the connection was closed after ${command}`);
      limit.signal.throwIfAborted();
      await this.#arrived.promise;
    }
  }

  [Symbol.dispose](): void {
    this.#socket?.terminate();
  }

  #take(): string | null {
    const end = this.#text.indexOf("\r\n");
    if (end < 0) return null;
    const bulk = /^\$(\d+)$/.exec(this.#text.slice(0, end));
    const from = bulk === null ? 0 : end + 2;
    const length = bulk === null ? end : Number(bulk[1]);
    if (this.#text.length < from + length + 2) return null;
    const answer = this.#text.slice(from, from + length);
    this.#text = this.#text.slice(from + length + 2);
    return answer;
  }
}

export type BystanderReport = {
  readonly clients: number;
  readonly answers: number;
  readonly wrong: number;
  readonly lost: number;
};

/** Clients that count, each its own number, and check every answer until they are told to end. */
export async function watchBystanders(
  hostname: string,
  clients: number,
  signal: AbortSignal,
): Promise<BystanderReport> {
  const report = { clients, answers: 0, wrong: 0, lost: 0 };
  const count = async (index: number): Promise<void> => {
    using client = await RedisClient.connect(hostname);
    await client.ask(`SET bystander:${index} 0`);
    for (let expected = 1; !signal.aborted; expected += 1) {
      const answer = await client.ask(`INCR bystander:${index}`).catch(() => null);
      if (answer === null) {
        report.lost += 1;
        return;
      }
      report.answers += 1;
      if (answer !== `:${expected}`) report.wrong += 1;
      await systemClock.sleep(5);
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, index) => count(index)));
  return report;
}
