// SPDX-License-Identifier: Apache-2.0
/**
 * Whose request was it? Gets the evidence on every connection at the moment of a fault; gives the one to blame and how
 * sure that is, or nobody. Pure.
 *
 * Two kinds of evidence, neither enough by itself: the kernel's (received last, not answered, nothing waits unread) and
 * memory's (the descriptor number occurs where the request reaches, weighed by how common that number is anyway). Where each
 * connection has a thread, which one the thread has waited on says more than both.
 * Cutting a bystander is worse than cutting nobody: below `blameConfidence` nobody is cut.
 */
import type { Session, SessionEvidence } from "#fault.ts";

/** Least confidence at which a session is cut. */
export const blameConfidence = 0.9;

/** Weight of one occurrence by depth; further away means more objects and more chance. */
const depthWeights = { direct: 1, near: 0.7, far: 0.35 };
/** Occurrences beyond these say nothing new: the same variable is on the stack many times. */
const countedMax = { direct: 4, near: 3, far: 3 };
/** A number that was never seen nearby still occurs by chance about so often. */
const commonnessFloor = 1 / 8192;
/** A number as common as that says nothing. */
const chanceBits = 6;
/** log2 of the odds that the kernel's view of a connection gives. */
const unansweredBits = 4;
const tieBits = 1;
const answeredBits = -6;
/** Received and sent in one tick of the kernel's clock, and as many segments each way as with all others at rest. */
const balancedBits = -3;
const elsewhereBits = -8;
/** The thread waits on this connection alone: more than whatever the kernel says of it, unless it was long ago. */
const ownBits = 12;
/** A balance is usual where so many connections at rest have it, and this share of them. */
const usualMin = 8;
const usualShare = 0.8;
const unreadBits = -8;
const staleBits = -3;
/** Received this long after the newest data of any connection: some other request, long done or given up. */
const staleMs = 50;

/** The connection to blame with its confidence; null where there is none with any evidence of its own. */
export function findSession(evidence: readonly SessionEvidence[]): Session | null {
  // What waits unread has come while the thread was at its fault, or in its loop: it makes nobody's request stale.
  const read = evidence.filter(({ unreadBytes }) => unreadBytes === 0);
  const newestMs = Math.min(...read.map((socket) => socket.lastReceivedMs ?? Number.POSITIVE_INFINITY));
  const usual = usualBalance(read);
  const scored = evidence
    .map((socket) => ({
      socket,
      bits: reachBits(socket) + stateBits(socket, newestMs, usual) + (socket.own === true ? ownBits : 0),
      reached: socket.own === true || reachBits(socket) > 0,
    }))
    .sort((a, b) => b.bits - a.bits);
  const best = scored[0];
  if (best === undefined || best.bits <= 0 || !best.reached) return null;
  // The share of the best one in the odds of all: 1 where the others are far behind.
  const others = scored.slice(1).reduce((sum, { bits }) => sum + 2 ** (bits - best.bits), 0);
  const prior = 2 ** -Math.min(best.bits, 16);
  return { fd: best.socket.fd, peer: best.socket.peer, confidence: round(1 / (1 + others + prior)) };
}

/** Bits that memory speaks for a connection: rare numbers in reach weigh more than common ones. */
export function reachBits({ reach, commonness }: SessionEvidence): number {
  const rarity = {
    direct: rarityOf(commonness.direct),
    near: rarityOf(commonness.near),
    far: rarityOf(commonness.near),
  };
  return (["direct", "near", "far"] as const).reduce(
    (sum, depth) => sum + depthWeights[depth] * Math.min(reach[depth], countedMax[depth]) * rarity[depth],
    0,
  );
}

/** 1 for a number that is seen nowhere else, 0 for one that every 64th word holds. */
function rarityOf(commonness: number): number {
  const bits = -Math.log2(Math.max(commonness, commonnessFloor));
  return Math.max(0, (bits - chanceBits) / (-Math.log2(commonnessFloor) - chanceBits));
}

/** Bits that the kernel's view of a connection speaks for it. `usual`: the balance that connections at rest have. */
export function stateBits(socket: SessionEvidence, newestMs: number, usual: number | null = null): number {
  if (socket.elsewhere === true) return elsewhereBits;
  if (socket.unreadBytes > 0) return unreadBits;
  const { lastReceivedMs, lastSentMs } = socket;
  if (lastReceivedMs === null || lastSentMs === null) return 0;
  const stale = lastReceivedMs - newestMs > staleMs ? staleBits : 0;
  if (socket.neverAnswered || lastReceivedMs < lastSentMs) return unansweredBits + stale;
  return (lastReceivedMs === lastSentMs ? bitsOfTie(socket, usual) : answeredBits) + stale;
}

/** The ticks of its clock do not tell whether the answer came after the request; the segments may. */
function bitsOfTie({ balance }: SessionEvidence, usual: number | null): number {
  if (usual === null || balance == null) return tieBits;
  if (balance === usual + 1) return unansweredBits;
  return balance === usual ? balancedBits : tieBits;
}

/**
 * How many more segments were received than sent on nearly every connection at rest; null where they differ. At rest as many
 * are sent as received, or more: where more were received, all wait for their answers.
 */
function usualBalance(read: readonly SessionEvidence[]): number | null {
  const atRest = read.filter(
    ({ lastReceivedMs, lastSentMs }) => lastReceivedMs !== null && lastSentMs !== null && lastReceivedMs >= lastSentMs,
  );
  const balances = atRest.flatMap(({ balance }) => (balance == null ? [] : [balance]));
  const counts = new Map<number, number>();
  for (const balance of balances) counts.set(balance, (counts.get(balance) ?? 0) + 1);
  const [usual, count] = [...counts].reduce((best, next) => (next[1] > best[1] ? next : best), [1, 0]);
  return usual <= 0 && count >= usualMin && count >= usualShare * balances.length ? usual : null;
}

const round = (value: number): number => Math.round(value * 1000) / 1000;
