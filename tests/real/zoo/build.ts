// SPDX-License-Identifier: Apache-2.0
/**
 * Compiles the programs of the zoo, each with the flags that its specimen asks for, once a run of tests.
 *
 * Gets a source and flags; gives the path of the program. The compiler is told by the source's name: `.c` gcc, `.cc` g++,
 * `.rs` rustc, `.go` go; `musl` among the flags takes musl-gcc, `certificate` adds one beside it. What is compiled goes to a directory of this process.
 */
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProgramError } from "#errors.ts";

export type Build = {
  /** File name under `programs/`. */
  readonly source: string;
  /** What comes after the usual flags. `strip`, `musl` and `certificate` are ours, all others the compiler's. */
  readonly flags?: readonly string[];
};

const programs = join(import.meta.dir, "programs");
const built = new Map<string, Promise<string>>();

/** @throws ProgramError "program.gone" where the compiler complains */
export function build({ source, flags = [] }: Build): Promise<string> {
  const key = [source, ...flags].join(" ");
  const known = built.get(key);
  if (known !== undefined) return known;
  const directory = join(tmpdir(), `holdfast-zoo-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  const output = join(directory, `${source.split(".")[0]}-${built.size}`);
  const making = make(source, flags, output);
  built.set(key, making);
  return making;
}

/** The program that compiles a source: what a test has to need. */
export function compilerOf({ source, flags = [] }: Build): string {
  if (source.endsWith(".cc")) return "g++";
  if (source.endsWith(".rs")) return "rustc";
  if (source.endsWith(".go")) return "go";
  return flags.includes("musl") ? "musl-gcc" : "gcc";
}

async function make(source: string, flags: readonly string[], output: string): Promise<string> {
  const path = join(programs, source);
  const own = flags.filter((flag) => flag !== "strip" && flag !== "musl" && flag !== "certificate");
  await run(compileCommand({ source, flags }, path, own, output));
  if (flags.includes("strip")) await run(["strip", "--strip-all", "--remove-section=.comment", output]);
  if (flags.includes("certificate")) await certify(`${output}.pem`);
  return output;
}

/** Key and certificate in one file, for a host that nobody checks. */
async function certify(path: string): Promise<void> {
  const [key, certificate] = [`${path}.key`, `${path}.certificate`];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"];
  await run(["openssl", "req", "-x509", ...kind, "-keyout", key, "-out", certificate]);
  await Bun.write(path, (await Bun.file(key).text()) + (await Bun.file(certificate).text()));
}

function compileCommand(build: Build, path: string, flags: readonly string[], output: string): string[] {
  const compiler = compilerOf(build);
  switch (compiler) {
    case "rustc":
      return ["rustc", "--edition", "2021", "-C", "panic=abort", ...flags, "-o", output, path];
    case "go":
      return ["go", "build", ...flags, "-o", output, path];
    default:
      return [
        compiler,
        "-O2",
        "-w",
        "-pthread",
        ...flags.filter(isNoLibrary),
        "-o",
        output,
        path,
        ...flags.filter(isLibrary),
      ];
  }
}

const isLibrary = (flag: string): boolean => flag.startsWith("-l");
const isNoLibrary = (flag: string): boolean => !isLibrary(flag);

async function run(command: readonly string[]): Promise<void> {
  const environment = { ...process.env, GO111MODULE: "off", GOFLAGS: "", LC_ALL: "C" };
  const child = Bun.spawn([...command], { env: environment, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const complaint = await child.stderr.text();
  if ((await child.exited) === 0) return;
  throw new ProgramError("program.gone", `${command.join(" ")} failed: ${complaint.trim().slice(-600)}`);
}
