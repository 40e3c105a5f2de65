// SPDX-License-Identifier: Apache-2.0
/**
 * A real Mosquitto behind TLS with client certificates, and everything that can be wrong with it. Gets orders; gives what a
 * box needs to reach it. Each state begins where the one before has left the broker.
 */
import { systemClock } from "#clock.ts";
import { Authority, type Certificate } from "./certificates.ts";
import { type BrokerOptions, Mosquitto } from "./mosquitto.ts";

const frozenMs = 80;
const thawedMs = 20;

export class IllBroker implements AsyncDisposable {
  readonly #authority = new Authority();
  readonly #stranger = new Authority("somebody else");
  readonly #well: BrokerOptions;
  readonly #foreign: BrokerOptions;
  readonly #box: Certificate;
  readonly #reader: Certificate;
  #pulsing: { on: boolean; readonly over: Promise<void> } | null = null;

  static async start(device: string): Promise<IllBroker> {
    const ill = new IllBroker(device);
    ill.broker = await Mosquitto.start(ill.#well);
    return ill;
  }

  broker!: Mosquitto;

  private constructor(device: string) {
    this.#well = { listener: listenerOf(this.#authority.file, this.#authority.issue("server")) };
    this.#foreign = { listener: listenerOf(this.#authority.file, this.#stranger.issue("server")) };
    this.#box = this.#authority.issue(device);
    this.#reader = this.#authority.issue("reader");
  }

  get url(): string {
    return `mqtts://127.0.0.1:${this.broker.port}`;
  }

  /** Lines of a `[telemetry]` section for the box. */
  get section(): string[] {
    const { certificateFile, keyFile } = this.#box;
    const files = {
      broker: this.url,
      authority: this.#authority.file,
      certificate: certificateFile,
      privateKey: keyFile,
    };
    return ["[telemetry]", ...Object.entries(files).map(([name, value]) => `${name} = "${value}"`)];
  }

  /** What a reader needs to be let in. */
  get readerOptions(): { ca: string; cert: string; key: string } {
    const { certificate, privateKey } = this.#reader;
    return { ca: this.#authority.authority, cert: certificate, key: privateKey };
  }

  /** Names of the states, in their order. */
  get states(): readonly string[] {
    return Object.keys(this.#acts);
  }

  async make(state: string): Promise<void> {
    if (this.#pulsing !== null) {
      this.#pulsing.on = false;
      await this.#pulsing.over;
      this.#pulsing = null;
    }
    await this.#acts[state]!();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#pulsing !== null) this.#pulsing.on = false;
    await this.#pulsing?.over;
    await this.broker[Symbol.asyncDispose]();
    this.#authority[Symbol.dispose]();
    this.#stranger[Symbol.dispose]();
  }

  readonly #acts: Readonly<Record<string, () => Promise<void>>> = {
    healthy: async () => {},
    slow: async () => this.#pulse(),
    frozen: async () => this.broker.freeze(),
    "back after being frozen, draining": async () => this.broker.thaw(),
    killed: () => this.broker.kill(),
    "started again without its memory": () => this.broker.start(this.#well),
    refusing: () => this.broker.refuseAll(),
    full: () => this.broker.overfill(),
    "of a stranger, by its certificate": () => this.#again(this.#foreign),
    "well again": () => this.#again(this.#well),
  };

  async #again(options: BrokerOptions): Promise<void> {
    await this.broker.kill();
    await this.broker.start(options);
  }

  /** It stands still for four fifths of the time. */
  #pulse(): void {
    const pulsing = { on: true, over: Promise.resolve() };
    const beat = async (): Promise<void> => {
      while (pulsing.on) {
        this.broker.freeze();
        await systemClock.sleep(frozenMs);
        this.broker.thaw();
        await systemClock.sleep(thawedMs);
      }
    };
    pulsing.over = beat();
    this.#pulsing = pulsing;
  }
}

const listenerOf = (authority: string, { certificateFile, keyFile }: Certificate): string[] => [
  `cafile ${authority}`,
  `certfile ${certificateFile}`,
  `keyfile ${keyFile}`,
  "require_certificate true",
  "use_identity_as_username true",
];
