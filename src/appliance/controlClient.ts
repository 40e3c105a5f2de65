// SPDX-License-Identifier: Apache-2.0
/**
 * Asks a running supervisor through its door (control.ts). Gets the run directory; gives statuses, does verbs.
 */
import { ConfigError, HypervisorError, ProgramError, StorageError, UpdateError } from "#errors.ts";
import type { CheckpointFacts } from "#restoration/checkpointFacts.ts";
import type { PlainCommand } from "./control.ts";
import { controlPath } from "./control.ts";
import type { CheckpointVerb } from "./controlCheckpoints.ts";
import type { GuestStatus } from "./guests/guests.ts";
import type { UpdateStatus } from "./page/machineTold.ts";
import type { ProgramStatus } from "./programs/programStatus.ts";
import type { UpdateAnswer, UpdateRequest, UpdateVerb } from "./update/controlUpdate.ts";

export class ControlClient {
  readonly #path: string;

  constructor(runDirectory: string) {
    this.#path = controlPath(runDirectory);
  }

  async list(): Promise<GuestStatus[]> {
    return (await this.#ask("GET", "guests")) as GuestStatus[];
  }

  async show(name: string): Promise<GuestStatus> {
    return (await this.#ask("GET", `guests/${encodeURIComponent(name)}`)) as GuestStatus;
  }

  /** Resolves once it is done. @throws HypervisorError hypervisor.state with the reason */
  async command(name: string, command: PlainCommand): Promise<GuestStatus> {
    return (await this.#ask("POST", `guests/${encodeURIComponent(name)}/${command}`)) as GuestStatus;
  }

  async checkpoints(): Promise<CheckpointFacts[]> {
    return (await this.#ask("GET", "checkpoints")) as CheckpointFacts[];
  }

  /** `name`: a guest for `create`, a guest or a checkpoint for `restore`, a path for `import`, else a checkpoint. */
  async checkpoint(name: string, verb: CheckpointVerb): Promise<unknown> {
    return await this.#ask("POST", `checkpoints/${encodeURIComponent(name)}/${verb}`);
  }

  async type(name: string, text: string): Promise<void> {
    await this.#ask("POST", `guests/${encodeURIComponent(name)}/console`, text);
  }

  async programs(): Promise<ProgramStatus[]> {
    return (await this.#ask("GET", "programs")) as ProgramStatus[];
  }

  /** `verb`: `start`, `stop`, `restart`, `release`, `take-back`. @throws HoldfastError with the reason */
  async program(name: string, verb: string): Promise<ProgramStatus> {
    return (await this.#ask("POST", `programs/${encodeURIComponent(name)}/${verb}`)) as ProgramStatus;
  }

  async update(): Promise<UpdateStatus> {
    return (await this.#ask("GET", "update")) as UpdateStatus;
  }

  /** @throws HoldfastError with the reason */
  async orderUpdate(verb: UpdateVerb, order: UpdateRequest = {}): Promise<UpdateAnswer> {
    return (await this.#ask("POST", `update/${verb}`, JSON.stringify(order))) as UpdateAnswer;
  }

  async #ask(method: string, place: string, body?: string): Promise<unknown> {
    const response = await this.#send(method, place, body);
    if (response.status === 204) return undefined;
    const answer: unknown = await response.json();
    if (response.ok) return answer;
    const { code, message } = answer as { code: string; message: string };
    if (code === "config.argument") throw new ConfigError(code, message);
    if (code === "storage.notFound") throw new StorageError(code, message);
    if (code.startsWith("update.")) throw new UpdateError(code as UpdateError["code"], message);
    if (code === "program.state" || code === "program.busy") throw new ProgramError(code, message);
    throw new HypervisorError(code === "hypervisor.timeout" ? code : "hypervisor.state", message);
  }

  async #send(method: string, place: string, body?: string): Promise<Response> {
    try {
      return await fetch(`http://localhost/${place}`, {
        unix: this.#path,
        method,
        ...(body === undefined ? {} : { body }),
        keepalive: false,
      });
    } catch (cause) {
      const advice = "start it with: holdfast run --config FILE (or name its run directory with --run)";
      const message = `no holdfast answers at ${this.#path}; ${advice}`;
      throw new HypervisorError("hypervisor.unsupervised", message, {}, cause);
    }
  }
}
