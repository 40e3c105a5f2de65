// SPDX-License-Identifier: Apache-2.0
/**
 * The root command: which verb file is loaded, how wrong words are refused, what an error prints and exits with.
 */
import { expect, test } from "bun:test";
import { exitCodeOf, exitCodes } from "#cli/exitCodes.ts";
import { verbs } from "#cli/main.ts";
import { run, type Verb, version } from "#cli/program.ts";
import { AssertionError, ConfigError, GdbError, ProgramError, StorageError } from "#errors.ts";

type Ran = { readonly code: number; readonly said: string; readonly loaded: readonly string[] };

async function ran(words: readonly string[], fail?: unknown): Promise<Ran> {
  const loaded: string[] = [];
  let said = "";
  const verb = (name: string): Verb => ({
    name,
    summary: `does ${name}`,
    add: async (program) => {
      loaded.push(name);
      program
        .command(name)
        .option("--json")
        .action(() => {
          if (fail !== undefined) throw fail;
        });
    },
  });
  const code = await run(words, [verb("guard"), verb("faults")], (text) => {
    said += text;
  });
  return { code, said, loaded };
}

test("only the called verb is loaded", async () => {
  expect(await ran(["faults", "--json"])).toEqual({ code: 0, said: "", loaded: ["faults"] });
  expect((await ran(["guard"])).loaded).toEqual(["guard"]);
});

test("no verb: the help, as a usage error, with every verb in it", async () => {
  const { code, said, loaded } = await ran([]);
  expect(code).toBe(exitCodes.usage);
  expect(said).toContain("does guard");
  expect(said).toContain("does faults");
  expect(loaded).toEqual([]);
});

test("wrong words are refused in one line, with a suggestion", async () => {
  const verb = await ran(["fauts"]);
  expect(verb).toEqual({
    code: 2,
    said: "holdfast: unknown command 'fauts' (Did you mean faults?) (see holdfast --help)\n",
    loaded: [],
  });
  const option = await ran(["faults", "--jsn"]);
  expect(option.code).toBe(2);
  expect(option.said).toBe("holdfast: unknown option '--jsn' (Did you mean --json?) (see holdfast faults --help)\n");
  expect((await ran(["faults", "extra"])).code).toBe(2);
});

test("an error prints its chain and gives its code; a bug also its trace", async () => {
  const error = new GdbError(
    "gdb.start",
    "gdbserver did not start",
    { path: "/x" },
    new StorageError("storage.io", "no"),
  );
  expect(await ran(["guard"], error)).toEqual({
    code: exitCodes.unavailable,
    said: "holdfast: gdbserver did not start (path=/x)\n  because no\n",
    loaded: ["guard"],
  });
  const bug = await ran(["guard"], new TypeError("undefined is no function"));
  expect(bug.code).toBe(exitCodes.bug);
  expect(bug.said).toContain("program.test.ts");
});

test("exit codes by error code, family, and for bugs", () => {
  expect(exitCodeOf(new ProgramError("program.notFound", ""))).toBe(127);
  expect(exitCodeOf(new ProgramError("program.notExecutable", ""))).toBe(126);
  expect(exitCodeOf(new ConfigError("config.argument", ""))).toBe(2);
  expect(exitCodeOf(new ConfigError("config.value", ""))).toBe(78);
  expect(exitCodeOf(new GdbError("gdb.frame", ""))).toBe(76);
  expect(exitCodeOf(new AssertionError("bug", ""))).toBe(70);
  expect(exitCodeOf(new RangeError(""))).toBe(70);
});

test("the README shows every exit code", async () => {
  const readme = await Bun.file(`${import.meta.dir}/../../../README.md`).text();
  for (const code of Object.values(exitCodes)) expect(readme).toMatch(new RegExp(`^\\| ${code} \\|`, "m"));
});

test("the version is the package's", async () => {
  const manifest: unknown = await Bun.file(`${import.meta.dir}/../../../package.json`).json();
  expect(manifest).toMatchObject({ version });
});

test("every verb of the list adds a command of its name", async () => {
  for (const { name, summary, add } of verbs) {
    const { Command } = await import("commander");
    const program = new Command();
    await add(program);
    expect(program.commands.map((command) => command.name())).toContain(name);
    expect(summary.length).toBeGreaterThan(0);
  }
});
