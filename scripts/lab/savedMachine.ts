// SPDX-License-Identifier: Apache-2.0
/**
 * A machine of QEMU's as it stands, in a file: one boot serves many trials. Gets the machine's control socket; gives the
 * words that start such a machine, and the words that go on from where it was saved.
 *
 * What a disk holds is not in the file: whoever goes on gives the machine its disks as they were, or disks that it had not
 * looked at. Source: QEMU 7.2, docs/devel/migration.rst and the QMP reference (migrate, query-migrate).
 */
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { systemClock } from "#clock.ts";
import { LabError } from "./labError.ts";

const saveMsMax = 300_000;
const pollMs = 200;
const downtimeMsMax = 60_000;

export const savable = (socket: string): readonly string[] => ["-qmp", `unix:${socket},server=on,wait=off`];
export const resumed = (file: string): readonly string[] => ["-incoming", `exec:cat ${file}`];

type Answer = { readonly return?: { readonly status?: string }; readonly error?: { readonly desc: string } };

/** Saves the machine with all that it has written flushed. It stands still afterwards, and goes on where it is resumed. @throws LabError */
export async function saveMachine(socketPath: string, file: string): Promise<void> {
  const socket = connect(socketPath);
  try {
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    const ask = async (execute: string, words: Record<string, unknown> = {}): Promise<Answer> => {
      socket.write(`${JSON.stringify({ execute, arguments: words })}\n`);
      for (;;) {
        const { value, done } = await lines.next();
        if (done === true) throw new LabError("lab.machine", `QEMU hung up at ${execute}`);
        const answer = JSON.parse(value) as Answer;
        if (answer.error !== undefined) throw new LabError("lab.machine", `${execute}: ${answer.error.desc}`);
        // The greeting and events have neither.
        if (answer.return !== undefined) return answer;
      }
    };
    await ask("qmp_capabilities");
    // Not stopped first: what is saved while it stands still also stands still afterwards.
    await ask("migrate-set-parameters", { "max-bandwidth": 2 ** 33, "downtime-limit": downtimeMsMax });
    await ask("migrate", { uri: `exec:cat >${file}` });
    const limitNs = systemClock.monotonicNs() + saveMsMax * 1e6;
    for (;;) {
      const status = (await ask("query-migrate")).return?.status;
      if (status === "completed") return;
      if (status === "failed" || systemClock.monotonicNs() > limitNs) {
        throw new LabError("lab.machine", `the machine was not saved: ${status ?? "no answer"}`);
      }
      await systemClock.sleep(pollMs);
    }
  } finally {
    socket.destroy();
  }
}
