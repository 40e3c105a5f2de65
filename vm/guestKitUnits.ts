// SPDX-License-Identifier: Apache-2.0
/** The units of the guest kit (vm/guest-kit), and where they listen: ports of vsock. */

export const guestKitSockets = ["holdfast-stub.socket", "holdfast-sockets.socket"] as const;
export const guestKitUnits = [...guestKitSockets, "holdfast-stub@.service", "holdfast-sockets@.service"] as const;

/** gdbserver's. */
export const stubPort = 2_159;
/** The list of TCP connections. */
export const socketsPort = 2_160;
