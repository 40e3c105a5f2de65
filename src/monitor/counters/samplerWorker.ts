// SPDX-License-Identifier: Apache-2.0
/**
 * The sampling Worker: ticks at the set rate, looks at the workloads once a second, and says what it saw. It blocks its own
 * thread between ticks and lets messages in once a second, or when it is called.
 */
import { statSync } from "node:fs";
import { systemBox } from "#board/box.ts";
import { readKernelClock } from "#board/native/clockState.ts";
import { readNvmeLife } from "#board/native/nvmeLife.ts";
import { pageBytesOfMachine } from "#board/native/pause.ts";
import { systemClock } from "#clock.ts";
import type { FlashLife } from "#health.ts";
import { controlWords, type ToSampler } from "../snapshot.ts";
import { Collector } from "./collector.ts";
import { keepingBox } from "./keepingBox.ts";
import { rehearseTicks } from "./rehearseTicks.ts";
import { SampleBoard } from "./sampleBoard.ts";
import { Sampler } from "./sampler.ts";
import { TickLoop } from "./tickLoop.ts";

declare const self: Worker;

let collector: Collector | null = null;

self.onmessage = (event: MessageEvent<ToSampler>): void => {
  const message = event.data;
  if (message.kind === "targets") collector?.watch(message.targets);
  else void run(message);
};

async function run({ plan, buffer, control, rateHz, places }: Extract<ToSampler, { kind: "start" }>): Promise<void> {
  using sampler = new Sampler(plan, new SampleBoard(plan, buffer), systemBox);
  using box = keepingBox(systemBox);
  const host = { box, readClock: readKernelClock, readNvmeLife: nvmeLives, places };
  const process = { box, pageBytes: pageBytesOfMachine(), sizeOf };
  collector = new Collector({ plan, sampler, host, process, clock: systemClock });
  const words = new Int32Array(control);
  rehearseTicks(sampler);
  const loop = new TickLoop(rateHz, words, systemClock, (nowNs) => sampler.tick(nowNs));
  while (words[controlWords.end] === 0) {
    // Messages come in here; whoever sends one raises the word before, so none waits for a whole round.
    const call = Atomics.load(words, controlWords.call);
    await systemClock.sleep(0);
    self.postMessage(collector.collect(loop.late));
    Atomics.add(words, controlWords.beats, 1);
    loop.round(call);
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
