// SPDX-License-Identifier: Apache-2.0
/** A box whose files are a table: path to text. Folders are what lies below them. Everything else is absent. */
import type { Box } from "#board/box.ts";

export function fixtureBox(files: Readonly<Record<string, string>>, more: Partial<Box> = {}): Box {
  return {
    processor: "arm64",
    userId: 0,
    environment: {},
    text: (path) => files[path]?.trim() ?? null,
    exists: (path) => path in files || Object.keys(files).some((known) => known.startsWith(`${path}/`)),
    names: (path) => {
      const below = Object.keys(files).filter((known) => known.startsWith(`${path}/`));
      return [...new Set(below.map((known) => known.slice(path.length + 1).split("/")[0]!))];
    },
    open: () => "ENOENT",
    writable: () => "ENOENT",
    space: () => null,
    find: () => null,
    versionOf: () => null,
    ...more,
  };
}
