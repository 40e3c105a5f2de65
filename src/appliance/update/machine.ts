// SPDX-License-Identifier: Apache-2.0
/**
 * The machine as the rest of a supervisor sees it that looks after all of it: how it is restarted, why it was, its updates.
 */
import type { BoxRestart } from "../boxRestart.ts";
import type { Updates } from "./updates.ts";

export interface Machine {
  readonly restart: BoxRestart;
  /** Why the box was started this time: a word of `bootReasons`. */
  readonly bootReason: string;
  /** null where this is no flashed box. */
  readonly updates: Updates | null;
  /** Erases all data and restarts the box, in a moment. @throws UpdateError where that cannot be, with the reason */
  wipe(): void;
}
