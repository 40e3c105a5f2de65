// SPDX-License-Identifier: Apache-2.0
/**
 * A supervisor process of the scenario: `holdfast run --json`, its notices as they come, and its violent end.
 */
import { deadline } from "#clock.ts";
import { LabError } from "./labError.ts";

export type Notice = Readonly<Record<string, unknown>>;

export class Supervisor {
  readonly notices: Notice[] = [];
  #arrived = Promise.withResolvers<void>();
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;

  constructor(config: string) {
    this.#child = Bun.spawn([process.execPath, "src/cli/main.ts", "run", "--json", "--verbose", "--config", config], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    void this.#read(this.#child.stdout, (line) => this.#take(line));
    void this.#read(this.#child.stderr, (line) => console.log(`  ${line}`));
  }

  /** The first notice with these fields that nobody has taken yet. */
  async next(fields: Notice, patienceMs: number): Promise<Notice> {
    const late = (): LabError => new LabError("lab.machine", `no ${JSON.stringify(fields)} within ${patienceMs} ms`);
    using limit = deadline(patienceMs, late);
    const wake = (): void => this.#arrived.resolve();
    limit.signal.addEventListener("abort", wake, { once: true });
    for (;;) {
      const found = this.taken(fields);
      if (found !== undefined) return found;
      limit.signal.throwIfAborted();
      await this.#arrived.promise;
    }
  }

  /** Takes such a notice where it is there already. */
  taken(fields: Notice): Notice | undefined {
    const at = this.notices.findIndex((notice) =>
      Object.entries(fields).every(([key, value]) => notice[key] === value),
    );
    return at < 0 ? undefined : this.notices.splice(at, 1)[0];
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#child.kill(signal);
    await this.#child.exited;
  }

  async #read(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of stream) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) take(line);
    }
  }

  #take(line: string): void {
    let shown = line;
    try {
      const notice = JSON.parse(line) as Notice;
      this.notices.push(notice);
      const frames = notice.frames as readonly { readonly symbol?: string; readonly offset: string }[] | undefined;
      if (frames !== undefined) {
        shown = JSON.stringify({ ...notice, frames: frames.map(({ symbol, offset }) => symbol ?? offset).join(" ") });
      }
    } catch {
      // Not a notice: whatever it is, it is shown.
    }
    console.log(`  ${shown.slice(0, 600)}`);
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers<void>();
  }
}
