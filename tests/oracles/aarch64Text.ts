// SPDX-License-Identifier: Apache-2.0
/**
 * AArch64 assembler text (capstone's and objdump's) as a memory access, to compare our decoder with. null: no access.
 *
 * Aliases are undone: `stadd w1, [x0]` is `ldadd w1, wzr, [x0]`. Vector operands are left out.
 */

export type TextAccess = {
  readonly mnemonic: string;
  /** General registers in the order of the text, without the address. */
  readonly registers: readonly string[];
  /** Base and index register, constant, and whether the address is written back. */
  readonly address: string;
};

const accessName = /^(ld|st|cas|swp|prfm|prfum)/;
/** Groups that our decoder leaves out, and text that only looks like an access. */
const leftOut =
  /^(ldg|stg|st2g|stz|ldgm|stgm|stzg|ldff|ldnf|ld64b|st64b|ldtadd|cpy|set)|^(ld|st)[1-4]?[bhwdq]$|^(ld|st)n[tf]|^st64/;
const atomicAlias = /^st(add|clr|eor|set|smax|smin|umax|umin)(l?)([bh]?)$/;

export function accessOfText(mnemonic: string, operands: string): TextAccess | null {
  if (!accessName.test(mnemonic) || leftOut.test(mnemonic) || /\bz\d|\bp\d|za/.test(operands)) return null;
  const bracket = operands.indexOf("[", operands.includes("}[") ? operands.indexOf("}[") + 2 : 0);
  const before = bracket < 0 ? operands : operands.slice(0, bracket);
  const names = before.match(/\b([wx]([0-9]|[12][0-9]|30)|[wx]zr)\b/g) ?? [];
  const registers = [...names];
  let name = mnemonic;
  const alias = atomicAlias.exec(mnemonic);
  if (alias !== null) {
    name = `ld${alias[1]}${alias[2]}${alias[3]}`;
    registers.push(`${registers[0]?.[0]}zr`);
  }
  if (bracket < 0) return { mnemonic: name, registers, address: literalOf(operands) };
  return { mnemonic: name, registers, address: addressOf(operands.slice(bracket)) };
}

function literalOf(operands: string): string {
  const constant = /#?(0x[0-9a-f]+|\d+)$/.exec(operands.replace(/ <.*$/, ""))?.[1] ?? "0";
  return `=${BigInt(constant)}`;
}

function addressOf(text: string): string {
  const [, inside = "", mark = "", after = ""] = /^\[([^\]]*)\](!?)(?:, (.*))?$/.exec(text) ?? [];
  const [from = "", ...rest] = inside.split(", ");
  // The zero register as an index, however extended, is no index.
  if (/^[wx]zr/.test(rest[0] ?? "")) rest.length = 0;
  const wrote = mark === "!" || after !== "" ? "writes" : "";
  return [from, constants(rest.join(" ")), wrote, constants(after)].filter((part) => part !== "").join(" ");
}

/** Constants signed and in decimal; an extension or shift that changes nothing is left out, and so is a constant 0. */
const constants = (text: string): string =>
  text
    .replace(/#(-?)(0x[0-9a-f]+|\d+)/g, (_, minus: string, digits: string) => {
      const value = BigInt.asIntN(64, BigInt(digits));
      return String(minus === "-" ? -value : value);
    })
    .replace(/ (sxtx|uxtx|lsl) (\d+)$/, " lsl $2")
    .replace(/ (sxtx|uxtx)$/, "")
    .replace(/ lsl 0$| 0$|^0$/, "");
