// SPDX-License-Identifier: Apache-2.0
/** A box in a process of its own, to be killed: `bun boxProcess.ts URL`. It connects and stays until a signal. */
import { openBox } from "#tests/peers/box.ts";

openBox(process.argv[2]!);
