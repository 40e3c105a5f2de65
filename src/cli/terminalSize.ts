// SPDX-License-Identifier: Apache-2.0
/** The size of the terminal at standard output, for views that redraw themselves on it. */
import type { ScreenSize } from "#appliance/topScreen.ts";

const usual: ScreenSize = { columns: 80, rows: 24 };

/** Now, in characters. A serial console knows no size of its own and says 0. */
export const terminalSize = (): ScreenSize => ({
  columns: process.stdout.columns || usual.columns,
  rows: process.stdout.rows || usual.rows,
});
