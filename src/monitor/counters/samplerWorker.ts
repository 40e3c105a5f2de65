// SPDX-License-Identifier: Apache-2.0
/**
 * The sampling Worker: ticks at the set rate, looks at the workloads once a second, and says what it saw. It blocks its own
 * thread between ticks and takes messages once a second, or when it is called. What it says goes as one text, which costs a
 * fifth of a copy.
 */
import { statSync } from "node:fs";
import { systemBox } from "#board/box.ts";
import { readKernelClock } from "#board/native/clockState.ts";
import { readNvmeLife } from "#board/native/nvmeLife.ts";
import { pageBytesOfMachine } from "#board/native/pause.ts";
import { systemClock } from "#clock.ts";
import type { FlashLife } from "#health.ts";
import { callsOf, take } from "#mailbox.ts";
import { controlWords, type SamplerStart, type Target } from "../snapshot.ts";
import { Collector } from "./collector.ts";
import { keepingBox } from "./keepingBox.ts";
import { rehearseTicks } from "./rehearseTicks.ts";
import { SampleBoard } from "./sampleBoard.ts";
import { Sampler } from "./sampler.ts";
import { TickLoop } from "./tickLoop.ts";

declare const self: Worker;

/** The runtime keeps house in a turn of its event loop: with one in five rounds the whole supervisor is 4 MiB larger. */
const roundsPerTurn = 2;

self.onmessage = ({ data }: MessageEvent<SamplerStart>): void => {
  void run(data);
};

async function run({ plan, buffer, control, rateHz, places, mailbox }: SamplerStart): Promise<void> {
  using sampler = new Sampler(plan, new SampleBoard(plan, buffer), systemBox);
  using box = keepingBox(systemBox);
  const host = { box, readClock: readKernelClock, readNvmeLife: nvmeLives, places };
  const process = { box, pageBytes: pageBytesOfMachine(), sizeOf };
  const collector = new Collector({ plan, sampler, host, process, clock: systemClock });
  const words = new Int32Array(control);
  rehearseTicks(sampler, rateHz);
  const loop = new TickLoop(rateHz, mailbox.calls, systemClock, (nowNs) => sampler.tick(nowNs));
  for (let round = 1; words[controlWords.end] === 0; round += 1) {
    const calls = callsOf(mailbox);
    for (let next = take(mailbox); next !== null; next = take(mailbox)) {
      collector.watch(next.message as readonly Target[]);
    }
    self.postMessage(JSON.stringify(collector.collect(loop.late)));
    Atomics.add(words, controlWords.beats, 1);
    loop.round(calls);
    if (round % roundsPerTurn === 0) await systemClock.sleep(0);
  }
}

function sizeOf(path: string): number | null {
  try {
    return statSync(path).size;
  } catch {
    return null; // Gone, or not ours to look at.
  }
}

function nvmeLives(): FlashLife[] {
  return systemBox.names("/sys/class/nvme").flatMap((device) => {
    const life = readNvmeLife(device);
    if (life === null) return [];
    return [
      {
        device,
        kind: "nvme" as const,
        usedRatio: life.usedRatio,
        spare: life.spareLow ? ("urgent" as const) : ("normal" as const),
      },
    ];
  });
}
