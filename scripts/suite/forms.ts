// SPDX-License-Identifier: Apache-2.0
/**
 * The named forms of `./scripts/test`: which folders each runs and which kinds of test run at length in it.
 *
 * A test asks `long(kind)` of tests/skip.ts; its form reaches it through the environment variable HOLDFAST_TEST_FORM.
 * The default form stays under 15 minutes on two cores; the long ones have no limit but the one for each file.
 */

/** What can be run at length: crash points, random inputs, real programs, measurements, a soak, the appliance. */
export type LongKind = "crash" | "fuzz" | "real" | "path" | "soak" | "image";

export type Form = {
  readonly folders: readonly string[];
  readonly long: readonly LongKind[];
  /** A test file that is not done by then is ended and counted as failed. */
  readonly fileTimeoutMs: number;
  /** Files that run side by side, where there are as many processors; 1 unless told. */
  readonly lanes?: number;
  readonly about: string;
};

const minuteMs = 60_000;
const all = ["tests/unit", "tests/fuzz", "tests/path", "tests/crash", "tests/real", "tests/browser", "tests/image"];

export const forms: Readonly<Record<string, Form>> = {
  default: {
    folders: all,
    long: [],
    fileTimeoutMs: 5 * minuteMs,
    lanes: 2,
    about: "all tests, at their usual size",
  },
  full: {
    folders: all,
    long: ["crash", "fuzz", "real", "path", "soak"],
    fileTimeoutMs: 12 * 60 * minuteMs,
    about: "all tests, at length",
  },
  fast: {
    folders: ["tests/unit", "tests/fuzz"],
    long: [],
    fileTimeoutMs: 10 * minuteMs,
    about: "unit and short fuzz tests",
  },
  path: { folders: ["tests/path"], long: ["path"], fileTimeoutMs: 60 * minuteMs, about: "the fault path, at length" },
  crash: {
    folders: ["tests/crash"],
    long: ["crash"],
    fileTimeoutMs: 240 * minuteMs,
    about: "our own death, at every step",
  },
  fuzz: { folders: ["tests/fuzz"], long: ["fuzz"], fileTimeoutMs: 240 * minuteMs, about: "random input, at length" },
  real: { folders: ["tests/real"], long: ["real"], fileTimeoutMs: 240 * minuteMs, about: "real programs, at length" },
  image: {
    folders: ["tests/image"],
    long: ["image"],
    fileTimeoutMs: 240 * minuteMs,
    about: "the appliance's image, booted and broken in every way",
  },
  soak: {
    folders: ["tests/real"],
    long: ["soak"],
    fileTimeoutMs: 24 * 60 * minuteMs,
    about: "real programs for hours",
  },
};

/** The name under which a form reaches the tests. */
export const formVariable = "HOLDFAST_TEST_FORM";
