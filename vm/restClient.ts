// SPDX-License-Identifier: Apache-2.0
/**
 * Cloud Hypervisor's REST API over its unix socket. Gets a call and its body; gives the decoded answer.
 *
 * One connection a call: Cloud Hypervisor serves ten at a time and never closes an idle one, so none is kept. Limits:
 * the time of each call (restCalls.ts), `answerBytesMax`, `bodyBytesMax` (what its HTTP server takes, from source).
 * Errors carry Cloud Hypervisor's own messages as causes, outermost first.
 */
import { deadline } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { type CallAnswer, type CallBody, type CallName, routes } from "./restCalls.ts";

export const answerBytesMax = 4 << 20;
export const bodyBytesMax = 51_200;
const messagesMax = 16;
const messageCharactersMax = 1_000;

export type CallOptions = {
  /** Instead of the call's own. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
};

export interface Rest {
  call<Name extends CallName>(
    name: Name,
    ...rest: CallBody<Name> extends undefined
      ? [body?: undefined, options?: CallOptions]
      : [body: CallBody<Name>, options?: CallOptions]
  ): Promise<CallAnswer<Name>>;
}

export class RestClient implements Rest {
  constructor(readonly socketPath: string) {}

  /**
   * @throws HypervisorError hypervisor.rejected (with Cloud Hypervisor's chain), hypervisor.closed (no process listens),
   * hypervisor.timeout, hypervisor.message, hypervisor.socket (body too large)
   */
  async call<Name extends CallName>(
    name: Name,
    ...[body, options = {}]: CallBody<Name> extends undefined
      ? [body?: undefined, options?: CallOptions]
      : [body: CallBody<Name>, options?: CallOptions]
  ): Promise<CallAnswer<Name>> {
    const route = routes[name];
    const timeoutMs = options.timeoutMs ?? route.timeoutMs;
    using limit = deadline(timeoutMs, () => this.#late(name, timeoutMs), options.signal);
    const { status, text } = await this.#send(name, route.method, body, limit.signal);
    if (status >= 300) throw refusal(name, status, text);
    return route.read(parse(name, text), name);
  }

  async #send(name: CallName, method: string, body: unknown, signal: AbortSignal): Promise<Raw> {
    const json = body === undefined ? null : JSON.stringify(body);
    if (json !== null && Buffer.byteLength(json) > bodyBytesMax) {
      const message = `the body of ${name} has ${json.length} bytes; Cloud Hypervisor takes ${bodyBytesMax}`;
      throw new HypervisorError("hypervisor.message", message, { call: name });
    }
    try {
      const response = await fetch(`http://localhost/api/v1/${name}`, {
        unix: this.socketPath,
        method,
        body: json,
        keepalive: false,
        redirect: "manual",
        // Ours is the only limit: Bun's own ends a call that takes longer than five minutes.
        timeout: false,
        signal,
      });
      return { status: response.status, text: await readText(name, response) };
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (cause instanceof HypervisorError) throw cause;
      const message = `no Cloud Hypervisor answers ${name} on its API socket`;
      throw new HypervisorError("hypervisor.closed", message, { socket: this.socketPath }, cause);
    }
  }

  #late(name: CallName, timeoutMs: number): HypervisorError {
    const message = `Cloud Hypervisor has not answered ${name} within ${timeoutMs} ms`;
    return new HypervisorError("hypervisor.timeout", message, { call: name, socket: this.socketPath });
  }
}

type Raw = { readonly status: number; readonly text: string };

async function readText(name: CallName, response: Response): Promise<string> {
  if (response.body === null) return "";
  const chunks: Uint8Array[] = [];
  let lengthBytes = 0;
  for await (const chunk of response.body) {
    lengthBytes += chunk.length;
    if (lengthBytes > answerBytesMax) {
      const message = `the answer to ${name} has more than ${answerBytesMax} bytes`;
      throw new HypervisorError("hypervisor.message", message, { call: name });
    }
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function parse(name: CallName, text: string): unknown {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HypervisorError("hypervisor.message", `the answer to ${name} is not JSON`, { call: name }, cause);
  }
}

/** A status of 300 or more as an error whose causes are Cloud Hypervisor's messages. Exported for tests. */
export function refusal(name: CallName, status: number, text: string): HypervisorError {
  const cause = messagesIn(text).reduceRight<HypervisorError | undefined>(
    (inner, message) => new HypervisorError("hypervisor.rejected", message, {}, inner),
    undefined,
  );
  return new HypervisorError("hypervisor.rejected", `Cloud Hypervisor refused ${name}`, { status }, cause);
}

/** Since v49 the body is a JSON array of messages, outermost first; whatever else comes is one message. */
function messagesIn(text: string): string[] {
  const cut = (message: string): string => message.slice(0, messageCharactersMax).replaceAll(/\s+/g, " ").trim();
  try {
    const parsed: unknown = JSON.parse(text);
    if (Array.isArray(parsed)) return parsed.slice(0, messagesMax).map((item) => cut(String(item)));
  } catch {
    // Not JSON: an older or a strange peer. Its text is the message.
  }
  return text.trim() === "" ? [] : [cut(text)];
}
