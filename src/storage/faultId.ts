// SPDX-License-Identifier: Apache-2.0
/**
 * Fault ids: `YYMMDD-HHMMSS-xxxxx`, UTC. Gets a clock and randomness; gives ids that sort by time and that a person can type.
 *
 * The last part is 25 bits in base32 without i, l, o, u: the millisecond (10 bits), then 15 random bits, so that two
 * guards on one box meet only in the same millisecond and with a chance of 1 in 32,768. One maker never repeats and
 * never goes back, also when the wall clock does. `holdfast show` takes the whole id, its beginning or its last part.
 */
import type { Clock, Random } from "#clock.ts";
import type { FaultId, TrialId } from "#fault.ts";

const digits = "0123456789abcdefghjkmnpqrstvwxyz";
const randomBits = 15;
const fractionMax = 1 << 25;
const fractionDigits = 5;

/** Whole ids only; used before a text from outside is taken for one. */
export const faultIdPattern = /^\d{6}-\d{6}-[0-9a-hjkmnp-tv-z]{5}$/;

/** A maker of ids that rise strictly. */
export function faultIds(clock: Clock, random: Random): () => FaultId {
  let second = 0;
  let fraction = 0;
  return () => {
    const nowMs = clock.wallMs();
    const nowSecond = Math.floor(nowMs / 1000);
    const nowFraction = ((nowMs % 1000) << randomBits) | Math.floor(random() * (1 << randomBits));
    if (nowSecond > second || (nowSecond === second && nowFraction > fraction)) {
      second = nowSecond;
      fraction = nowFraction;
    } else {
      fraction += 1;
      if (fraction === fractionMax) {
        second += 1;
        fraction = 0;
      }
    }
    return `${writeSecond(second)}-${writeFraction(fraction)}` as FaultId;
  };
}

/** The id of trial `number`, counted from 1. */
export const trialId = (fault: FaultId, number: number): TrialId => `${fault}.${number}` as TrialId;

/** The fault and the number of a trial; null where the text is no trial id. */
export function splitTrial(trial: TrialId): { fault: FaultId; number: number } | null {
  const dot = trial.lastIndexOf(".");
  const number = Number(trial.slice(dot + 1));
  return dot < 1 || !Number.isInteger(number) || number < 1 ? null : { fault: trial.slice(0, dot) as FaultId, number };
}

function writeSecond(second: number): string {
  const iso = new Date(second * 1000).toISOString();
  return `${iso.slice(2, 4)}${iso.slice(5, 7)}${iso.slice(8, 10)}-${iso.slice(11, 13)}${iso.slice(14, 16)}${iso.slice(17, 19)}`;
}

function writeFraction(fraction: number): string {
  let text = "";
  for (let digit = fractionDigits - 1; digit >= 0; digit -= 1) text += digits[(fraction >>> (digit * 5)) & 31];
  return text;
}
