// SPDX-License-Identifier: Apache-2.0
/**
 * Compares every row of a file's `.eh_frame` with the table that `readelf --debug-dump=frames-interp` prints.
 *
 * Gets a path, gives counts and the first differences. Both sides are brought to text: `LOC CFA register=rule …`.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import { type Row, type Rule, visitRows } from "#binary/cfi.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";

export type RowComparison = { functions: number; rows: number; equal: number; readonly differences: string[] };

const differencesMax = 20;
const entryStart = / FDE cie=\S+ pc=([0-9a-f]+)\.\.([0-9a-f]+)$/;

export async function compareRows(path: string): Promise<RowComparison> {
  const image = parseElf(await Bun.file(path).bytes());
  const theirs = await readelfRows(path);
  const result: RowComparison = { functions: 0, rows: 0, equal: 0, differences: [] };
  for (let index = 0; index < image.frames.count; index += 1) {
    const fde = image.frames.entryAt(index);
    if (fde === null) continue;
    result.functions += 1;
    visitRows(image.frames, fde, (start, _, row) => {
      result.rows += 1;
      const our = rowText(row(), image);
      const their = theirs.get(start);
      // readelf prints no table for a function whose entry has no instruction of its own.
      if (our === their || (their === undefined && start === fde.start && onlyNoOperations(image, fde.instructions))) {
        result.equal += 1;
      } else if (result.differences.length < differencesMax) {
        result.differences.push(`${start.toString(16)}: ours ${our}, readelf ${their}`);
      }
      return true;
    });
  }
  return result;
}

/** Rows by their location. */
async function readelfRows(path: string): Promise<ReadonlyMap<number, string>> {
  const rows = new Map<number, string>();
  const readelf = Bun.spawn(["readelf", "--wide", "--debug-dump=frames-interp", path], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let columns: readonly string[] = [];
  let isFunction = false;
  for (const line of (await readelf.stdout.text()).split("\n")) {
    if (/ (CIE|FDE|ZERO)/.test(line)) isFunction = entryStart.test(line);
    else if (line.startsWith("   LOC")) columns = line.trim().split(/\s+/).slice(2);
    else if (isFunction && /^[0-9a-f]{16} /.test(line)) {
      const plain = line.replaceAll(/\br\d+ \((\w+)\)/g, "$1");
      const [location = "", cfa = "", ...rules] = plain.trim().split(/\s+/);
      rows.set(Number.parseInt(location, 16), rowLine(cfa, columns, rules));
    }
  }
  return rows;
}

function rowLine(cfa: string, columns: readonly string[], rules: readonly string[]): string {
  const known = columns.map((column, index) => `${column}=${rules[index]}`).filter((text) => !text.endsWith("=u"));
  return [cfa, ...known.sort()].join(" ");
}

function rowText(row: Row, image: ElfImage): string {
  const name = (register: number): string => registerName(register, image);
  const offset = row.cfaOffset < 0 ? `${row.cfaOffset}` : `+${row.cfaOffset}`;
  const cfa = row.cfaExpression === null ? `${name(row.cfaRegister)}${offset}` : "exp";
  const column = (register: number): string => (register === row.fde.cie.returnColumn ? "ra" : name(register));
  const rules = row.rules.filter((rule) => rule.kind !== "undefined");
  const texts = rules.map((rule) => `${column(rule.register)}=${ruleText(rule, name)}`);
  return [cfa, ...texts.sort()].join(" ");
}

function ruleText(rule: Rule, name: (register: number) => string): string {
  const signed = rule.operand < 0 ? `${rule.operand}` : `+${rule.operand}`;
  switch (rule.kind) {
    case "offset":
      return `c${signed}`;
    case "valueOffset":
      return `v${signed}`;
    case "register":
      return name(rule.operand);
    case "expression":
      return "exp";
    case "valueExpression":
      return "vexp";
    default:
      return rule.kind === "same" ? "s" : "u";
  }
}

function registerName(register: number, image: ElfImage): string {
  if (image.architecture === "aarch64" && register >= 64 && register < 96) return `v${register - 64}`;
  return callingConvention[image.architecture].names[register] ?? `r${register}`;
}

const onlyNoOperations = (image: ElfImage, { from, to }: { from: number; to: number }): boolean =>
  image.layout.bytes.subarray(from, to).every((byte) => byte === 0);
