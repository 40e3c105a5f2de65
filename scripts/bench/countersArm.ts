// SPDX-License-Identifier: Apache-2.0
/**
 * One run of the sampler for scripts/bench/counters.ts: a process of its own that does nothing else. Its words: samples a
 * second, seconds, pid. Prints the processor time of the bare loop (reading counters and nothing else, as the C loop does), of
 * the sampling thread (which looks at the workload's files as well) and of the whole process, each after a warm-up.
 */
import { systemBox } from "#board/box.ts";
import { systemClock } from "#clock.ts";
import { planEvents } from "#monitor/counters/eventPlan.ts";
import { provenPlan } from "#monitor/counters/provenPlan.ts";
import { rehearseTicks } from "#monitor/counters/rehearseTicks.ts";
import { SampleBoard } from "#monitor/counters/sampleBoard.ts";
import { Sampler } from "#monitor/counters/sampler.ts";
import { SamplerPort } from "#monitor/counters/samplerPort.ts";
import { TickLoop } from "#monitor/counters/tickLoop.ts";
import { readThreads } from "#monitor/processes.ts";

/** The run-time compiler has done its work by then. */
const warmMs = 4_000;
const [rateHz, seconds, pid] = process.argv.slice(2).map(Number) as [number, number, number];

/** Time on a processor of each of our threads, ns. */
const ran = (): Map<number, number> =>
  new Map(
    readThreads(process.pid).map((tid) => [
      tid,
      Number((systemBox.text(`/proc/self/task/${tid}/schedstat`) ?? "0").split(" ")[0]),
    ]),
  );

const loopNs = bareLoop();
const before = new Set(ran().keys());
let late = 0;
using port = new SamplerPort({
  ...{ box: systemBox, rateHz, places: ["/"] },
  snapshot: (snapshot) => {
    late = snapshot.samplesLate;
  },
  ended: (why) => process.stderr.write(`${why}\n`),
});
port.watch([{ workload: "work", kind: "program", pids: [pid] }]);
await systemClock.sleep(warmMs);
const from = ran();
const fromNs = systemClock.monotonicNs();
await systemClock.sleep(seconds * 1000);
const to = ran();
const passedNs = systemClock.monotonicNs() - fromNs;
const used = [...to].map(([tid, ns]) => ({ tid, ns: ns - (from.get(tid) ?? 0) }));
const sum = (some: readonly { ns: number }[]): number => some.reduce((total, { ns }) => total + ns, 0);
// The sampler is the busiest of the threads that came with it; the others belong to the runtime.
const sampler = Math.max(...used.filter(({ tid }) => !before.has(tid)).map(({ ns }) => ns));
process.stdout.write(`${JSON.stringify({ loop: loopNs, sampler, whole: sum(used), passedNs, late })}\n`);
process.exit(0);

/** ns a second that the loop takes on this thread. */
function bareLoop(): number {
  const plan = provenPlan(planEvents(systemBox), systemBox);
  using sampler = new Sampler(plan, SampleBoard.create(plan), systemBox);
  rehearseTicks(sampler, rateHz);
  sampler.watch(0, readThreads(pid), false);
  const loop = new TickLoop(rateHz, new Int32Array(new SharedArrayBuffer(4)), systemClock, (nowNs) =>
    sampler.tick(nowNs),
  );
  loop.round(0);
  const own = (): number => Number((systemBox.text("/proc/thread-self/schedstat") ?? "0").split(" ")[0]);
  const from = own();
  for (let second = 0; second < seconds; second += 1) loop.round(0);
  return (own() - from) / seconds;
}
