// SPDX-License-Identifier: Apache-2.0
/**
 * What a person or a fleet may ask of a box: the verbs, the role that each needs, and a request as plain data.
 *
 * Whoever asks (command line, page, MQTT) ends in the same `VerbRequest`; `appliance` executes it and answers through the
 * `VerbJob` that came with it. No verb gives a shell, a path, memory, registers or the debugger.
 */

/** Roles from weakest to strongest; a stronger one may do all that a weaker one may. */
export const roles = ["view", "operate", "admin"] as const;
export type Role = (typeof roles)[number];

/** Every verb and the role it needs. */
export const verbRoles = {
  ping: "view",
  rebirth: "view",
  diag: "view",
  jobs: "view",
  resend: "view",
  "config.get": "view",
  "workload.restart": "operate",
  "workload.hold": "operate",
  "workload.release": "operate",
  "guest.checkpoint": "operate",
  "guest.restore": "operate",
  "suppression.off": "operate",
  "suppression.on": "operate",
  maintenance: "operate",
  reboot: "operate",
  cancel: "operate",
  "herd.forget": "operate",
  "update.install": "admin",
  "update.rollback": "admin",
  "config.set": "admin",
  "keys.grant": "admin",
  "keys.revoke": "admin",
  "herd.block": "admin",
  wipe: "admin",
} as const satisfies Record<string, Role>;

export type VerbName = keyof typeof verbRoles;
export const verbNames = Object.keys(verbRoles) as readonly VerbName[];
export const isVerbName = (text: string): text is VerbName => Object.hasOwn(verbRoles, text);

/** True where `role` may do what `needed` may. */
export const roleAllows = (role: Role, needed: Role): boolean => roles.indexOf(role) >= roles.indexOf(needed);

/** One argument: flat values, or a flat map of them (`config.set`). Checked against the verb's schema before it gets here. */
export type VerbScalar = string | number | boolean;
export type VerbArguments = Readonly<Record<string, VerbScalar | Readonly<Record<string, VerbScalar>> | Uint8Array>>;

export type VerbRequest = {
  /** Names the job; who asks twice with the same id gets the state of the first. */
  readonly id: string;
  readonly verb: VerbName;
  readonly args: VerbArguments;
  readonly role: Role;
  /** Who asked: a key id in hex, a login, or "console". */
  readonly by: { readonly via: "mqtt" | "page" | "cli"; readonly who: string };
  /** Wall clock, ms since 1970: after this it counts as failed. */
  readonly deadlineMs: number;
};

/** What came of a request. `result` is small plain data for the asker; `why` says in one sentence what to do. */
export type VerbResult =
  | { readonly kind: "succeeded"; readonly result?: Readonly<Record<string, VerbScalar>> }
  | { readonly kind: "failed"; readonly why: string }
  | { readonly kind: "cancelled"; readonly why: string };

export type VerbProgress = {
  /** 0..100. */
  readonly percent?: number;
  readonly step?: string;
  readonly secondsLeft?: number;
};

/** A request together with the right to answer it. The signal aborts when it is cancelled or its deadline has passed. */
export interface VerbJob {
  readonly request: VerbRequest;
  readonly signal: AbortSignal;
  progress(progress: VerbProgress): void;
  /** Ends the job; only the first call counts. Resolves once the end is on the disk. */
  finish(result: VerbResult): Promise<void>;
}
