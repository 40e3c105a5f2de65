// SPDX-License-Identifier: Apache-2.0
/**
 * A table for a terminal. Gets a heading and rows of text; gives lines with columns as wide as their widest cell.
 * Control characters in cells are shown as `?`: names come from programs and files that anybody may have made.
 */

const gap = "  ";

export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows.map((row) => row.map(printable))];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => Bun.stringWidth(row[column] ?? ""))));
  const line = (row: readonly string[]): string =>
    widths
      .map((width, column) => pad(row[column] ?? "", width))
      .join(gap)
      .trimEnd();
  return `${all.map(line).join("\n")}\n`;
}

const pad = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - Bun.stringWidth(text)));

/** Control characters, which could move the cursor or forge lines, become `?`. */
export const printable = (text: string): string => text.replace(/\p{Cc}/gu, "?");
