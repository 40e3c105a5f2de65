// SPDX-License-Identifier: Apache-2.0
/**
 * Rescue records end to end: what a guard learned of a site is used by the next one, on another day and on another box;
 * people list, show, export, import and forget it, while a guard runs and while none does.
 *
 * The program's first rescue is made to fail by a probe, so that what was learned differs from what the ladder would choose.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileOrdered, type OrderedProgram } from "#scripts/bench/orderedProgram.ts";
import { freshName, type GuardEvent, GuardRun } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";

const guarded = need("gcc", "gdbserver", tracing);
const timeoutMs = 90_000;
const main = join(import.meta.dir, "../../src/cli/main.ts");
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-rescue-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Said = { readonly code: number; readonly out: string; readonly error: string };

async function rescue(...words: readonly string[]): Promise<Said> {
  const child = Bun.spawn([process.execPath, main, "rescue", ...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, error, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { out, error, code };
}

type Listed = { readonly id: string; readonly edits: readonly { readonly key: string; readonly last: string }[] };
const listed = async (state: string): Promise<Listed[]> =>
  (await rescue("list", "--json", "--state", state)).out
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Listed);

/** One fault from order to verdict. */
async function fault(run: GuardRun, program: OrderedProgram): Promise<{ fault: GuardEvent; outcome: GuardEvent }> {
  const nth = run.seen("outcome").length + 1;
  program.order("l");
  const outcome = await run.event("outcome", nth);
  return { fault: run.seen("fault").find(({ id }) => id === outcome.id)!, outcome };
}

async function end(run: GuardRun): Promise<void> {
  run.signal("SIGTERM");
  await run.end();
}

guarded(
  "what failed and what worked is known after a restart and on another box, until it is forgotten",
  async () => {
    await using program = await compileOrdered("stop");
    const [state, otherState, file] = [join(folder, "state"), join(folder, "other"), join(folder, "records.json")];
    const [name, healthy] = [freshName("learns"), join(folder, "healthy")];
    const start = (at: string, guard: string): GuardRun =>
      new GuardRun(["--name", guard, "--state", at, "--probe", `cmd:test -e ${healthy}`, "--", ...program.command]);
    let learnt = "";
    {
      await using run = start(state, name);
      await run.guarding();
      const first = await fault(run, program);
      expect(first.outcome.verdict).toBe("failed");
      writeFileSync(healthy, "");
      const second = await fault(run, program);
      expect(second.outcome.verdict).toBe("clean");
      expect(second.fault.action).not.toBe(first.fault.action);
      learnt = String(second.fault.action);
      await end(run);
    }
    const [record] = await listed(state);
    expect(record!.edits.map(({ last }) => last)).toEqual(["clean", "failed"]);
    expect(record!.edits[0]!.key).toBe(learnt);
    const shown = await rescue("show", record!.id.slice(0, 6), "--state", state);
    expect(shown.out).toContain(`->  ${learnt}`);
    expect(await rescue("export", file, "--state", state)).toMatchObject({ code: 0, out: `${file}: 1 record\n` });

    // Another box: no journal, no restart, only the file.
    const other = freshName("told");
    expect((await rescue("import", file, "--state", otherState, "--name", other)).code).toBe(0);
    {
      await using run = start(otherState, other);
      await run.guarding();
      const met = await fault(run, program);
      expect(met.fault.action).toBe(learnt);
      expect(met.outcome.verdict).toBe("clean");
      // While it runs: forgotten at once, and the ladder begins anew.
      expect(await rescue("forget", record!.id, "--state", otherState)).toMatchObject({
        code: 0,
        out: "forgotten: 1\n",
      });
      expect(await listed(otherState)).toEqual([]);
      const again = await fault(run, program);
      expect(again.fault.action).not.toBe(learnt);
      // And taken up again while it runs.
      expect((await rescue("forget", "--all", "--state", otherState)).code).toBe(0);
      expect((await rescue("import", file, "--state", otherState)).code).toBe(0);
      expect((await fault(run, program)).fault.action).toBe(learnt);
      await end(run);
    }
    // Another day at the first one: straight to it.
    await using run = start(state, name);
    await run.guarding();
    const met = await fault(run, program);
    expect(met.fault.action).toBe(learnt);
    expect(met.outcome.verdict).toBe("clean");
    await end(run);
  },
  timeoutMs,
);

describe("bad words", () => {
  const bad = async (text: string): Promise<Said> => {
    const file = join(folder, "bad.json");
    writeFileSync(file, text);
    return await rescue("import", file, "--state", join(folder, "none"), "--name", "x");
  };

  test("a file that is none of ours is refused with the reason, and changes nothing", async () => {
    const record = JSON.stringify({ format: "holdfast.rescue", version: 1, records: [{}] });
    for (const text of ["", "{", "[1]", record, record.replace('"version":1', '"version":9')]) {
      const { code, error } = await bad(text);
      expect(code).toBe(2);
      expect(error).toStartWith("holdfast: this is no file of rescue records: ");
      expect(error).not.toContain(" at ");
    }
    expect(await listed(join(folder, "none"))).toEqual([]);
  });

  test("what is not there is said", async () => {
    const none = ["--state", join(folder, "none")];
    expect((await rescue("list", ...none)).out).toContain("Nothing was learned yet");
    expect(await rescue("show", "abc", ...none)).toMatchObject({ code: 66 });
    expect(await rescue("forget", ...none)).toMatchObject({ code: 2 });
    expect(await rescue("import", join(folder, "nothing"), ...none)).toMatchObject({ code: 2 });
  });
});
