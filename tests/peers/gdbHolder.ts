// SPDX-License-Identifier: Apache-2.0
/**
 * `bun gdbHolder.ts RUN_DIRECTORY PID`: a supervisor to be killed. Attaches, says "attached", then "stopped TID" at each
 * stop, and leaves the thread as it is.
 */
import { systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";

const [runDirectory = "", pid = ""] = process.argv.slice(2);
const stub = await startStub(runDirectory, { clock: systemClock });
const client = await GdbClient.open(stub.transport, { clock: systemClock, log: silentLog });
await client.attach(Number(pid), { stopAll: false });
console.log("attached");
for await (const event of client.stops()) if (event.kind === "signal") console.log(`stopped ${event.tid}`);
