// SPDX-License-Identifier: Apache-2.0
/**
 * An appliance that runs in QEMU, driven over its serial line and through its forwarded page.
 *
 * Gets an image; gives what its console says and what its shell answers. The box runs on a sparse copy of the image, which
 * outlives it: the next one on the same disk is the same box. All of its console is kept in a file beside the disk.
 */
import { appendFileSync } from "node:fs";
import { deadline, systemClock } from "#clock.ts";
import { type MachineOptions, machineWords } from "#image/machine.ts";
import type { ImageArchitecture } from "#image/packages.ts";
import { LabError } from "./labError.ts";

export type BoxParts = {
  readonly architecture: ImageArchitecture;
  readonly disk: string;
  /** Port of this machine to port of the box. */
  readonly forwards: readonly (readonly [number, number])[];
  /** In place of the file, as QEMU names it. */
  readonly drive?: string;
  readonly memoryMiB?: number;
  /** It can have guests. A machine that is saved cannot: QEMU 7.2 forgets the timer of a kernel that runs above guests. */
  readonly hasGuests?: boolean;
  readonly direct?: NonNullable<MachineOptions["direct"]>;
  readonly more?: readonly string[];
};

/** Firmware, kernel and services under software emulation, on a busy machine. */
export const bootMsMax = 600_000;
const answerMsMax = 300_000;
const usualMemoryMiB = 1_536;
/** Its time goes by its instructions, so QEMU runs it in one thread: a second processor would only take turns. */
const processors = 1;
const againMsMax = 10_000;
const typedMax = 30;
const complaintMax = 500;

export class BootedBox implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #log: string;
  #text = "";
  /** When the console had said how much. */
  readonly #marks: { readonly atNs: number; readonly length: number }[] = [];
  #from = 0;
  #orders = 0;
  #heard = Promise.withResolvers<void>();
  #ended = false;
  /** What QEMU itself said at its end. */
  #complaint = "";

  constructor(parts: BoxParts) {
    this.#log = `${parts.disk}.console`;
    const memoryMiB = parts.memoryMiB ?? usualMemoryMiB;
    const words = machineWords({ ...parts, memoryMiB, processors, isSoftware: true, ownTime: true });
    this.#child = Bun.spawn(words, { stdio: ["pipe", "pipe", "pipe"] });
    void this.#listen();
  }

  /** All that the console has said so far. */
  get console(): string {
    return this.#text;
  }

  /** What it had said by then, on the monotonic clock. */
  saidBy(atNs: number): string {
    return this.#text.slice(0, this.#marks.findLast((mark) => mark.atNs <= atNs)?.length ?? 0);
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of this.#child.stdout) {
      const text = decoder.decode(bytes, { stream: true }).replaceAll("\r", "");
      appendFileSync(this.#log, text);
      this.#text += text;
      this.#marks.push({ atNs: systemClock.monotonicNs(), length: this.#text.length });
      this.#heard.resolve();
      this.#heard = Promise.withResolvers<void>();
    }
    this.#complaint = (await this.#child.stderr.text()).trim().slice(-complaintMax);
    this.#ended = true;
    this.#heard.resolve();
  }

  /** Waits until the console says it, from where the last wait ended. @throws LabError lab.machine */
  async says(pattern: RegExp, withinMs: number = bootMsMax): Promise<RegExpExecArray> {
    const late = (): LabError =>
      new LabError("lab.machine", `no ${pattern} on the console within ${withinMs} ms; see ${this.#log}`);
    using limit = deadline(withinMs, late);
    const over = new Promise<never>((_, reject) =>
      limit.signal.addEventListener("abort", () => reject(limit.signal.reason as Error), { once: true }),
    );
    for (;;) {
      const found = pattern.exec(this.#text.slice(this.#from));
      if (found !== null) {
        this.#from += found.index + found[0].length;
        return found;
      }
      if (this.#ended) {
        throw new LabError("lab.machine", `the box ended before ${pattern}: ${this.#complaint}; see ${this.#log}`);
      }
      await Promise.race([this.#heard.promise, over]);
    }
  }

  /** The shell on its console; the boot partition must ask for it (file `shell`). */
  async shellReady(): Promise<void> {
    await this.says(/\n# /);
  }

  /** The shell of a box that goes on from where it was saved: what is typed first is lost at times. */
  async shellAgain(): Promise<void> {
    for (let typed = 1; ; typed += 1) {
      this.type("");
      const heard = await this.says(/# /, againMsMax).catch((error: unknown) => {
        if (this.#ended || typed === typedMax) throw error;
        return null;
      });
      if (heard !== null) return;
    }
  }

  /** Types a command that does not end. */
  type(command: string): void {
    this.#child.stdin.write(`${command}\n`);
    this.#child.stdin.flush();
  }

  /** Runs a command in the shell; gives what it printed. @throws LabError lab.machine where it fails or says nothing */
  async shell(command: string, withinMs: number = answerMsMax): Promise<string> {
    this.#orders += 1;
    const number = this.#orders;
    // The marks are put together by the shell, so that the echo of the command is not taken for its answer.
    this.#child.stdin.write(
      `printf 'LAB%sB%d\\n' - ${number}; { ${command}\n} 2>&1; printf 'LAB%sE%d:%d\\n' - ${number} $?\n`,
    );
    this.#child.stdin.flush();
    const pattern = new RegExp(`LAB-B${number}\\n([\\s\\S]*?)LAB-E${number}:(\\d+)\\n`);
    const [, out, code] = await this.says(pattern, withinMs);
    const said = out!.replaceAll(/^> |^\[ *\d+\.\d+\].*\n/gm, "").trim();
    if (code !== "0") throw new LabError("lab.machine", `${command} ended with ${code}: ${said.slice(-500)}`);
    return said;
  }

  /** As pulling the plug, but for what QEMU wrote already. */
  cut(): void {
    this.#child.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}
