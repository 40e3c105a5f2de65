// SPDX-License-Identifier: Apache-2.0
/**
 * The life and death of one storageWriter.ts, and what must hold in its directory afterwards. Gets directories and a seed;
 * gives what was acknowledged before the end, and the broken promises found on the disk.
 */
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { readEntries } from "#storage/cursorReader.ts";
import { openReadOnly } from "#storage/database.ts";
import { Storage } from "#storage/storage.ts";
import { checkContent, pathOf } from "#storage/storedFile.ts";

export type Life = { readonly opened: boolean; readonly begun: number; readonly acked: number };

/** Starts a writer; `end` is called at once, or once storage is open there, and must bring about its end. */
export async function live(
  places: { readonly directory: string; readonly runDirectory: string },
  first: number,
  seed: number,
  end: (opened: Promise<void>) => Promise<void>,
): Promise<Life> {
  const { directory, runDirectory } = places;
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "storageWriter.ts"), directory, runDirectory, String(first), String(seed)],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const opening = Promise.withResolvers<void>();
  const life = { opened: false, begun: first - 1, acked: first - 1 };
  const reading = readLines(child.stdout, (line) => {
    const [word, number] = line.split(" ");
    if (word === "open") {
      life.opened = true;
      opening.resolve();
    }
    if (word === "begun") life.begun = Number(number);
    if (word === "acked") life.acked = Math.max(life.acked, Number(number));
  }).finally(() => opening.resolve());
  await end(opening.promise);
  child.kill("SIGKILL");
  await reading;
  await child.exited;
  return life;
}

/** Opens the directory as a new supervisor would. Gives the numbers found and every broken promise. */
export async function examine(
  places: { readonly directory: string; readonly runDirectory: string },
  acked: number,
): Promise<{ last: number; broken: string[] }> {
  const broken: string[] = [];
  {
    await using storage = await Storage.open({ ...places, clock: systemClock, log: silentLog });
    const { kind, ringSlots } = storage.state();
    if (kind === "blind") broken.push(`blind after the restart: ${storage.state().why}`);
    if (ringSlots !== 0) broken.push(`${ringSlots} slots of the ring are not settled`);
    await storage.flush();
  }
  const { directory } = places;
  using database = openReadOnly(pathOf(directory, "journal"));
  broken.push(...checkContent(database, "integrity_check").map((line) => `integrity: ${line}`));
  const open = database.query<{ n: number }, []>("SELECT count(*) AS n FROM entry WHERE open = 1").get()?.n ?? 0;
  if (open > 0) broken.push(`${open} intents are still open`);
  const doubles = database.query<{ n: number }, []>("SELECT count(*) - count(DISTINCT id) AS n FROM entry").get()?.n;
  if (doubles !== 0) broken.push(`${doubles} rows are there twice`);
  const numbers = readNumbers(directory);
  numbers.forEach((number, index) => {
    if (number !== index + 1 && broken.length < 10) broken.push(`place ${index + 1} holds event ${number}`);
  });
  if (numbers.length < acked)
    broken.push(`${acked - numbers.length} acknowledged events are missing: ${numbers.length} of ${acked}`);
  return { last: numbers.length, broken };
}

function readNumbers(directory: string): number[] {
  const numbers: number[] = [];
  for (let after = 0; ; ) {
    const entries = readEntries(directory, after, 10_000, "event");
    if (entries.length === 0) return numbers;
    after = entries.at(-1)!.n;
    for (const { head } of entries) {
      const { event, facts } = head as { event: string; facts: { number: number } };
      if (event === "count") numbers.push(facts.number);
    }
  }
}

async function readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    rest += decoder.decode(bytes, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  }
}
