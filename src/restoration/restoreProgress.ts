// SPDX-License-Identifier: Apache-2.0
/**
 * The memory that a restore's Worker shares with the main thread: how far it is, and whether it is waited for. Apart from the
 * Worker's own file, which only a Worker may load: it listens, and whoever listens does not end.
 */

import { waitsBytes } from "./pageWaits.ts";

/** Places, 8 bytes each: the Worker's to write, but `wanted`, which says that Cloud Hypervisor is there. */
export const progressPlaces = { prefetched: 0, demanded: 1, background: 2, empty: 3, wanted: 4 } as const;
/** Behind them: the guest's waits for pages, see pageWaits.ts. */
export const waitsOffset = 5 * 8;
export const progressBytes = waitsOffset + waitsBytes;
