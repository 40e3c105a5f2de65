// SPDX-License-Identifier: Apache-2.0
/**
 * A real Mosquitto on free loopback ports, which a test can kill, freeze, thaw and start again. Gets configuration lines;
 * gives ports and the power over the process. Its files and its process go with the disposal.
 *
 * Ready is when it says so in its log. The ports stay the same over a restart. Source: mosquitto.conf(5), version 2.0.11.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { programPath } from "#tests/skip.ts";

const startsMax = 5;

export type BrokerOptions = {
  /** Lines of every listener, such as TLS. `PORT` is the port of the main listener. */
  readonly listener?: readonly string[];
  /** A second listener for WebSocket. */
  readonly websockets?: boolean;
  readonly global?: readonly string[];
  /** Keeps sessions and retained messages over a restart. */
  readonly persistence?: boolean;
  /** Left out: a free one. */
  readonly port?: number;
};

export class Mosquitto implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "holdfast-broker-"));
  readonly port: number;
  readonly websocketPort = freePort();
  #child: Bun.Subprocess<"ignore", "ignore", "pipe"> | null = null;
  #log = "";
  #options: BrokerOptions;

  static async start(options: BrokerOptions = {}): Promise<Mosquitto> {
    const broker = new Mosquitto(options);
    await broker.start();
    return broker;
  }

  private constructor(options: BrokerOptions) {
    this.#options = options;
    this.port = options.port ?? freePort();
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }
  get log(): string {
    return this.#log;
  }

  /** Starts it where it is not running; `options` replace the earlier ones. */
  async start(options: BrokerOptions = this.#options): Promise<void> {
    this.#options = options;
    await Bun.write(join(this.directory, "mosquitto.conf"), this.#configuration());
    for (let attempt = 1; this.#child === null; attempt += 1) {
      const child = Bun.spawn([programPath("mosquitto")!, "-c", "mosquitto.conf"], {
        cwd: this.directory,
        stdin: "ignore",
        stdout: "ignore",
        stderr: "pipe",
      });
      // What an earlier run said about being ready does not count.
      this.#log = "";
      const ready = Promise.withResolvers<boolean>();
      void this.#follow(child.stderr, ready.resolve);
      void child.exited.then(() => ready.resolve(false));
      if (await ready.promise) this.#child = child;
      else if (attempt === startsMax) throw new RangeError(`mosquitto does not start:\n${this.#log}`);
    }
  }

  /** SIGKILL: what it had not written is gone. */
  async kill(): Promise<void> {
    await this.#stop("SIGKILL");
  }
  /** SIGTERM: it writes its sessions first, if it keeps any. */
  async stop(): Promise<void> {
    await this.#stop("SIGTERM");
  }
  /** Starts it again so that it takes nothing from anybody. */
  async refuseAll(): Promise<void> {
    await Bun.write(join(this.directory, "acl"), "topic read #\n");
    await this.kill();
    await this.start({ ...this.#options, global: ["acl_file acl"] });
  }
  /** Starts it again with room for next to nothing. */
  async overfill(): Promise<void> {
    await this.kill();
    await this.start({ ...this.#options, global: ["memory_limit 60000"] });
  }
  freeze(): void {
    this.#child?.kill("SIGSTOP");
  }
  thaw(): void {
    this.#child?.kill("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw();
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #stop(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    child?.kill(signal);
    await child?.exited;
  }

  async #follow(output: ReadableStream<Uint8Array>, ready: (is: boolean) => void): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of output) {
      this.#log = (this.#log + decoder.decode(chunk, { stream: true })).slice(-20_000);
      if (/mosquitto version \S+ running/.test(this.#log)) ready(true);
    }
  }

  #configuration(): string {
    const { listener = ["allow_anonymous true"], websockets = false, global = [], persistence = false } = this.#options;
    return [
      "log_dest stderr",
      "log_type error",
      "log_type warning",
      "log_type notice",
      // It tells that it is ready as information.
      "log_type information",
      "connection_messages false",
      "per_listener_settings false",
      // A change of user would take the directory away from us.
      `user ${process.env.USER ?? "root"}`,
      ...(persistence ? ["persistence true", `persistence_location ${this.directory}/`, "autosave_interval 1"] : []),
      ...global,
      `listener ${this.port} 127.0.0.1`,
      ...listener,
      ...(websockets ? [`listener ${this.websocketPort} 127.0.0.1`, "protocol websockets"] : []),
      "",
    ].join("\n");
  }
}

/** A port that was free a moment ago. */
export function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}
