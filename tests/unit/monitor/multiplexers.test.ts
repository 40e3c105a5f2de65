// SPDX-License-Identifier: Apache-2.0
/**
 * Which descriptors a multiplexer watches: the text of /proc, and one of our own where the kernel has written it.
 */
import { expect, test } from "bun:test";
import { interestIn } from "#monitor/interestList.ts";
import { watchedElsewhere } from "#monitor/multiplexers.ts";

const text = `pos:\t0
flags:\t02000002
mnt_id:\t15
ino:\t1060
tfd:       14 events:       19 data:                e  pos:0 ino:9 sdev:8
tfd:        7 events: 80000019 data:                7  pos:0 ino:1c sdev:8
`;

test("the descriptors in the text of an epoll descriptor", () => {
  expect(interestIn(text)).toEqual([
    { fd: 14, inode: "9" },
    { fd: 7, inode: "28" },
  ]);
  expect(interestIn("pos:\t0\nflags:\t02\n")).toEqual([]);
});

test("nothing is said where a thread's own multiplexer is not known, or none is another's", () => {
  expect(watchedElsewhere(process.pid, { own: null, others: [3] }).size).toBe(0);
  expect(watchedElsewhere(process.pid, { own: 3, others: [] }).size).toBe(0);
  expect(watchedElsewhere(process.pid, { own: 1_000_000, others: [3] }).size).toBe(0);
});
