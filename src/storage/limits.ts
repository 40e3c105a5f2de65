// SPDX-License-Identifier: Apache-2.0
/**
 * Every limit of storage in one table: what is kept, for how long, how full a disk may be, how much may be written.
 *
 * The defaults suit a board with 16 GB of eMMC; by assumption (3,000 cycles, write amplification 4) its 12 TB of life last
 * about 30 years at the daily budget. Tests and small boards give their own.
 */

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

export type StorageLimits = {
  /** Below either of these the disk is *tight*. */
  readonly tightFreeRatio: number;
  readonly tightFreeBytes: number;
  /** Below this it is *critical*: history stops and the ballast is given up. */
  readonly criticalFreeBytes: number;
  readonly ballastBytes: number;

  /** Journal: rows go once they are older than the first, or the file is over its bytes and they are older than the second. */
  readonly journalAgeMsMax: number;
  readonly journalAgeMsMin: number;
  readonly journalBytesMax: number;
  readonly outboxAgeMsMax: number;
  readonly outboxBytesMax: number;
  /** Share of the outbox that metrics may not use. */
  readonly outboxReserveRatio: number;
  readonly rawAgeMsMax: number;
  readonly minuteAgeMsMax: number;
  readonly hourAgeMsMax: number;
  readonly historyBytesMax: number;

  readonly quarantineSetsMax: number;
  readonly quarantineBytesMax: number;

  /** When idle, a WAL over these bytes or this age is checkpointed; over the last one also when busy. */
  readonly walIdleBytes: number;
  readonly walAgeMs: number;
  readonly walBytesMax: number;
  readonly truncateIntervalMs: number;
  readonly integrityIntervalMs: number;

  readonly budgetBytesPerDay: number;
  readonly budgetHistoryBytesPerDay: number;
};

export const defaultLimits: StorageLimits = {
  tightFreeRatio: 0.1,
  tightFreeBytes: 512 * mebibyte,
  criticalFreeBytes: 128 * mebibyte,
  ballastBytes: 32 * mebibyte,
  journalAgeMsMax: 90 * dayMs,
  journalAgeMsMin: 7 * dayMs,
  journalBytesMax: 64 * mebibyte,
  outboxAgeMsMax: 7 * dayMs,
  outboxBytesMax: 64 * mebibyte,
  outboxReserveRatio: 0.3,
  rawAgeMsMax: dayMs,
  minuteAgeMsMax: 7 * dayMs,
  hourAgeMsMax: 365 * dayMs,
  historyBytesMax: 128 * mebibyte,
  quarantineSetsMax: 2,
  quarantineBytesMax: 128 * mebibyte,
  walIdleBytes: mebibyte,
  walAgeMs: minuteMs,
  walBytesMax: 32 * mebibyte,
  truncateIntervalMs: dayMs,
  integrityIntervalMs: 7 * dayMs,
  budgetBytesPerDay: 1024 * mebibyte,
  budgetHistoryBytesPerDay: 150 * mebibyte,
};
