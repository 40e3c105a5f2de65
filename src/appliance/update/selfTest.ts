// SPDX-License-Identifier: Apache-2.0
/**
 * Whether this very installation can do its work: a child of ours is guarded as any program is, is made to fault, goes on, and
 * is let go. Gets how Holdfast is run and a scratch directory; gives null, or what went wrong in one sentence.
 *
 * The child is a shell that sends itself SIGSEGV when told to: a fatal signal like any other for kernel, stub and guard, and
 * nothing but the base system is needed for it. Limits: `guardingMsMax`, `answerMsMax`.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Clock, deadline } from "#clock.ts";
import { explainInLine, ProgramError } from "#errors.ts";
import { GuardProcess } from "../demo/guardProcess.ts";
import { tracerOf } from "../demo/processFacts.ts";

const answerMsMax = 60_000;
const lookMs = 50;
const script = `while read -r word; do case "$word" in fault) kill -SEGV $$;; esac; echo "$word"; done`;

export async function testSelf(
  holdfast: readonly string[],
  directory: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | null> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const child = Bun.spawn(["/bin/sh", "-c", script], { stdio: ["pipe", "pipe", "ignore"] });
  const answers = new Answers(child.stdout);
  const places = ["--state", join(directory, "state"), "--name", "self-test", "--status", "off"];
  try {
    const guardArguments = [...places, "--pid", String(child.pid)];
    await using guard = new GuardProcess({ holdfast, guardArguments, logPath: join(directory, "log") });
    await guard.guarding();
    child.stdin.write("fault\n");
    await child.stdin.flush();
    await answers.next("fault", signal);
    const survived = await guard.waitFor((event) => event.event === "outcome", answerMsMax, 0, signal);
    if (survived?.event !== "outcome") return "a planted fault was not told as survived";
    if (survived.verdict === "failed") return "a planted fault was not survived cleanly";
    await guard.stop();
    child.stdin.write("after\n");
    await child.stdin.flush();
    await answers.next("after", signal);
    for (let looks = answerMsMax / lookMs; tracerOf(child.pid) !== 0; looks -= 1) {
      if (looks === 0) return "the child is still traced after its guard has ended";
      await clock.sleep(lookMs, signal);
    }
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return explainInLine(error);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the child says, line by line. */
class Answers {
  readonly #lines: AsyncGenerator<string>;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#lines = linesOf(stream);
  }

  /** @throws ProgramError program.gone where another answer comes, or none */
  async next(wanted: string, signal: AbortSignal): Promise<void> {
    const late = (): ProgramError => new ProgramError("program.gone", `the child did not answer ${wanted} in time`);
    using limit = deadline(answerMsMax, late, signal);
    const missed = Promise.withResolvers<never>();
    limit.signal.addEventListener("abort", () => missed.reject(limit.signal.reason), { once: true });
    const { value, done } = await Promise.race([this.#lines.next(), missed.promise]);
    if (done || value !== wanted)
      throw new ProgramError("program.gone", `the child ended, or said ${value ?? "nothing"}`);
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
