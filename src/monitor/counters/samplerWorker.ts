// SPDX-License-Identifier: Apache-2.0
/**
 * The sampling Worker: ticks at the set rate, looks at the workloads once a second, and says what it saw. It blocks its own
 * thread between ticks and takes messages once a second, or when it is called: from their port, since a turn of the event
 * loop costs as much as eight ticks (0.6 ms, measured). What it says goes as one text, which costs a fifth of a copy.
 */
import { statSync } from "node:fs";
import { type MessagePort as NodePort, receiveMessageOnPort } from "node:worker_threads";
import { systemBox } from "#board/box.ts";
import { readKernelClock } from "#board/native/clockState.ts";
import { readNvmeLife } from "#board/native/nvmeLife.ts";
import { pageBytesOfMachine } from "#board/native/pause.ts";
import { systemClock } from "#clock.ts";
import type { FlashLife } from "#health.ts";
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

self.onmessage = ({ data: { port, ...start } }: MessageEvent<SamplerStart>): void => {
  void run(start, port as unknown as NodePort);
};

async function run(
  { plan, buffer, control, rateHz, places }: Omit<SamplerStart, "port">,
  port: NodePort,
): Promise<void> {
  using sampler = new Sampler(plan, new SampleBoard(plan, buffer), systemBox);
  using box = keepingBox(systemBox);
  const host = { box, readClock: readKernelClock, readNvmeLife: nvmeLives, places };
  const process = { box, pageBytes: pageBytesOfMachine(), sizeOf };
  const collector = new Collector({ plan, sampler, host, process, clock: systemClock });
  const words = new Int32Array(control);
  rehearseTicks(sampler);
  const loop = new TickLoop(rateHz, words, systemClock, (nowNs) => sampler.tick(nowNs));
  for (let round = 1; words[controlWords.end] === 0; round += 1) {
    // Whoever sends a message raises the word after, so none waits for a whole round.
    const call = Atomics.load(words, controlWords.call);
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      collector.watch(next.message as readonly Target[]);
    }
    self.postMessage(JSON.stringify(collector.collect(loop.late)));
    Atomics.add(words, controlWords.beats, 1);
    loop.round(call);
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
