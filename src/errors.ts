// SPDX-License-Identifier: Apache-2.0
/**
 * The one error base and its subclasses, one for each port. Gets a code, a sentence, numbers; gives an Error whose chain prints.
 *
 * Callers switch on `code`, never on text. A message says what was tried, on what, with which number, and what to do;
 * it does not repeat its cause.
 */

/** Facts beside a message, printed as key=value. */
export type ErrorContext = Readonly<Record<string, string | number | bigint | boolean | null>>;

export abstract class HoldfastError<Code extends string = string> extends Error {
  constructor(
    readonly code: Code,
    message: string,
    readonly context: ErrorContext = {},
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
  }
}

export class GdbError extends HoldfastError<
  | "gdb.timeout"
  | "gdb.closed"
  | "gdb.frame"
  | "gdb.message"
  | "gdb.refused"
  | "gdb.violation"
  | "gdb.stale"
  | "gdb.start"
  | "gdb.version"
  | "gdb.attach"
  | "gdb.busy"
  | "gdb.gone"
  | "gdb.permission"
> {}

export class BinaryError extends HoldfastError<
  "binary.elf" | "binary.ehFrame" | "binary.expression" | "binary.architecture" | "binary.limit"
> {}

export class NativeError extends HoldfastError<
  | "native.call"
  | "native.open"
  | "native.layout"
  | "native.unsupported"
  | "native.closed"
  | "native.timeout"
  | "native.memoryFull"
> {
  /** errno of the failed call, 0 where the call was never made. */
  get errno(): number {
    const errno = this.context.errno;
    return typeof errno === "number" ? errno : 0;
  }
}

/** Cloud Hypervisor, its process, its sockets. Where it refused a call, its own messages follow as the chain of causes. */
export class HypervisorError extends HoldfastError<
  | "hypervisor.notFound"
  | "hypervisor.start"
  | "hypervisor.exited"
  | "hypervisor.kvm"
  | "hypervisor.socket"
  | "hypervisor.closed"
  | "hypervisor.timeout"
  | "hypervisor.message"
  | "hypervisor.rejected"
  | "hypervisor.state"
  | "hypervisor.unsupported"
  | "hypervisor.versionUnknown"
  | "hypervisor.vsock"
  | "hypervisor.network"
  | "hypervisor.unsupervised"
  | "hypervisor.protocol"
  | "hypervisor.peerClosed"
  | "hypervisor.peerSilent"
  | "hypervisor.noConvergence"
  | "hypervisor.queueNotReady"
  | "hypervisor.sourceNotRunning"
> {
  /** Cloud Hypervisor's own messages, outermost first; empty where the error is ours. */
  get chain(): readonly string[] {
    const messages: string[] = [];
    for (let cause = this.cause; cause instanceof HypervisorError; cause = cause.cause) messages.push(cause.message);
    return messages;
  }
}

export class StorageError extends HoldfastError<
  | "storage.locked"
  | "storage.ring"
  | "storage.corrupt"
  | "storage.newer"
  | "storage.pragma"
  | "storage.full"
  | "storage.io"
  | "storage.owner"
  | "storage.notFound"
  | "storage.version"
  | "storage.pageCorrupt"
  | "storage.extentMissing"
  | "storage.checkpointCorrupt"
> {}

export class TelemetryError extends HoldfastError<
  | "telemetry.payload"
  | "telemetry.size"
  | "telemetry.signature"
  | "telemetry.key"
  | "telemetry.topic"
  | "telemetry.connect"
  | "telemetry.refused"
  | "telemetry.closed"
  | "telemetry.timeout"
  | "telemetry.settings"
> {}

export class ConfigError extends HoldfastError<
  "config.syntax" | "config.unknownKey" | "config.value" | "config.argument"
> {}

/** The status page: what it cannot open, and what it does not do. */
export class StatusError extends HoldfastError<
  "status.listen" | "status.certificate" | "status.accounts" | "status.refused" | "status.tool" | "status.upload"
> {}

/** The program to be guarded cannot be: not there, not executable, of a kind we do not guard. */
export class ProgramError extends HoldfastError<
  | "program.notFound"
  | "program.notExecutable"
  | "program.unsupported"
  | "program.gone"
  | "program.permission"
  | "program.busy"
  | "program.state"
> {}

/** The slots of a flashed box, what is installed into them, and the tool that does it. */
export class UpdateError extends HoldfastError<
  | "update.noSlots"
  | "update.environment"
  | "update.bundle"
  | "update.signature"
  | "update.compatible"
  | "update.older"
  | "update.refused"
  | "update.state"
  | "update.install"
  | "update.fetch"
  | "update.tool"
> {}

/** A broken promise of our own code: a bug, never news. */
export class AssertionError extends HoldfastError<"bug"> {}

/** Throws where `condition` is false: a bug of ours, not of a peer. */
export function assert(condition: unknown, message: string, context: ErrorContext = {}): asserts condition {
  if (!condition) throw new AssertionError("bug", message, context);
}

/** The end of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionError("bug", `unreachable value ${String(value)}`);
}

/** One line an error of the chain: message, then its context. */
export function explain(error: unknown): string {
  const lines: string[] = [];
  for (let current = error, depth = 0; current !== undefined && depth < 8; depth += 1) {
    lines.push(describe(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return lines.join("\n  because ");
}

/** The whole chain as one line, for a table or a log. */
export const explainInLine = (error: unknown): string =>
  explain(error)
    .replaceAll("\n  because ", ": ")
    .replaceAll(/\s*\n\s*/g, " ");

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (!(error instanceof HoldfastError)) return error.message;
  const facts = Object.entries(error.context).map(([key, value]) => `${key}=${String(value)}`);
  return facts.length === 0 ? error.message : `${error.message} (${facts.join(" ")})`;
}
