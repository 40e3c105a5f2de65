// SPDX-License-Identifier: Apache-2.0
/**
 * A program in the place of grub-editenv, for RAUC: the same words, but a power cut leaves the old or the new environment.
 *
 *     grubEditenv.ts FILE list | set NAME=VALUE… | unset NAME… | create
 *
 * A lost environment lists as what the boot loader takes then: both slots good, order A B. Exit code 1 with one sentence where
 * it cannot be done. It loads little, because RAUC runs it several times for one question.
 */
import { explain, UpdateError } from "#errors.ts";
import { readEnvironment, writeEnvironment } from "./environmentFile.ts";
import { readSlotBook, withSlotBook } from "./slotEnvironment.ts";

const usage = "say: grub-editenv FILE list | set NAME=VALUE… | unset NAME… | create";

/** Does one command; gives what it prints. @throws UpdateError */
export function editEnvironment(words: readonly string[]): string {
  const [path, verb, ...rest] = words;
  if (path === undefined || path.startsWith("-")) throw new UpdateError("update.environment", usage);
  const known = readEnvironment(path) ?? withSlotBook(null, readSlotBook(null));
  switch (verb) {
    case "list":
      return [...known].map(([name, value]) => `${name}=${value}\n`).join("");
    case "create":
      writeEnvironment(path, withSlotBook(null, readSlotBook(null)));
      return "";
    case "set":
      for (const word of rest) {
        const equals = word.indexOf("=");
        if (equals < 1) throw new UpdateError("update.environment", `${JSON.stringify(word)} is no NAME=VALUE`);
        known.set(word.slice(0, equals), word.slice(equals + 1));
      }
      break;
    case "unset":
      for (const name of rest) known.delete(name);
      break;
    default:
      throw new UpdateError("update.environment", usage);
  }
  writeEnvironment(path, known);
  return "";
}

if (import.meta.main) {
  try {
    process.stdout.write(editEnvironment(process.argv.slice(2)));
  } catch (error) {
    process.stderr.write(`grub-editenv: ${explain(error)}\n`);
    process.exitCode = 1;
  }
}
