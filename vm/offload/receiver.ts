// SPDX-License-Identifier: Apache-2.0
/**
 * Our end of a migration that Cloud Hypervisor sends and we decline: requests in their order, each answered once.
 *
 * Gets a stream; gives each message checked, with the step it belongs to in every error. Whatever happens, `decline` is
 * safe to call: the guest goes on at its source. Blocks, at most `stepMsMax` for each message. Source: v53.0, the sending
 * half of `vmm/src/lib.rs`; the order of both forms is in `order`.
 */
import type { UnixStream } from "#board/native/unixStream.ts";
import { HypervisorError, NativeError } from "#errors.ts";
import { type CommandName, decodeRequest, encodeResponse, messageBytes, type Request } from "./wire.ts";

/** A message follows the answer to the one before within this; a guest that never converges ends by itself before. */
export const stepMsMax = 40_000;
const answerMsMax = 5_000;

/** What may come after what. */
const order: Readonly<Record<CommandName | "nothing", readonly CommandName[]>> = {
  nothing: ["start"],
  start: ["memoryFd", "config"],
  memoryFd: ["memoryFd", "config"],
  config: ["memory", "state"],
  memory: ["memory", "state"],
  state: ["complete", "completePaused"],
  complete: [],
  completePaused: [],
  abandon: [],
  pageFault: [],
};

export class MigrationReceiver {
  #last: CommandName | "nothing" = "nothing";
  #declined = false;
  readonly #head = new Uint8Array(new ArrayBuffer(messageBytes));

  constructor(private readonly stream: UnixStream) {}

  /** The next request; its payload is to be read, and it is to be answered. @throws HypervisorError, see `stepError` */
  next(): Request {
    const request = this.#during(this.#last, () => {
      this.stream.read(this.#head, stepMsMax);
      return decodeRequest(this.#head);
    });
    if (!order[this.#last].includes(request.command)) {
      throw this.#broken(`${request.command} does not follow ${this.#last}`);
    }
    this.#last = request.command;
    return request;
  }

  /** The next request, which must be one of these. @throws HypervisorError, see `stepError` */
  expect(...wanted: readonly CommandName[]): Request {
    const request = this.next();
    if (wanted.includes(request.command)) return request;
    throw this.#broken(`${request.command} came instead of ${wanted.join(" or ")}`);
  }

  /** @throws HypervisorError, see `stepError` */
  payload(into: Uint8Array): void {
    this.#during(this.#last, () => this.stream.read(into, stepMsMax));
  }

  /** The slot and the descriptor of a `memoryFd`. */
  memoryFile(): { readonly slot: number; readonly descriptor: number } {
    const slot = new Uint8Array(new ArrayBuffer(4));
    const descriptor = this.#during(this.#last, () => this.stream.readWithDescriptor(slot, stepMsMax));
    return { slot: new DataView(slot.buffer).getUint32(0, true), descriptor };
  }

  accept(): void {
    this.#during(this.#last, () => this.stream.write(encodeResponse("ok"), answerMsMax));
  }

  /** The guest stays where it is. Never throws: a peer that is gone has kept its guest, or lost it, without us. */
  decline(): void {
    if (this.#declined) return;
    this.#declined = true;
    try {
      this.stream.write(encodeResponse("error"), answerMsMax);
    } catch {
      // It has closed its end: that declines as well.
    }
  }

  #broken(why: string): HypervisorError {
    return new HypervisorError("hypervisor.protocol", `the migration protocol was broken: ${why}`, {
      step: this.#last,
    });
  }

  #during<Value>(step: string, act: () => Value): Value {
    try {
      return act();
    } catch (error) {
      throw stepError(error, step);
    }
  }
}

/** What a failed exchange with Cloud Hypervisor means. */
export function stepError(error: unknown, step: string): unknown {
  if (!(error instanceof NativeError)) return error;
  switch (error.code) {
    case "native.closed":
      return new HypervisorError("hypervisor.peerClosed", `Cloud Hypervisor hung up at ${step}`, { step }, error);
    case "native.timeout":
      return new HypervisorError("hypervisor.peerSilent", `Cloud Hypervisor fell silent at ${step}`, { step }, error);
    case "native.layout":
      return new HypervisorError("hypervisor.protocol", `no memory file came at ${step}`, { step }, error);
    default:
      return error;
  }
}
