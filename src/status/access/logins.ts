// SPDX-License-Identifier: Apache-2.0
/**
 * Logins of browsers: a random cookie, of which only the hash is kept. Ends when idle, after twelve hours, and when told to;
 * not with the supervisor, so that a page that is open goes on after a restart. Each has a token for its forms.
 *
 * Kept in one file that only its owner can read. What is not written yet when the supervisor dies is at most a minute of
 * idle time; a file that cannot be read or written means logging in again.
 */
import { timingSafeEqual } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { Clock } from "#clock.ts";
import { type Role, roles } from "#verbs.ts";
import { limits } from "../settings.ts";
import { hashOf, newSecret } from "./accounts.ts";

export type Login = {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly from: string;
  readonly csrf: string;
  readonly beganMs: number;
  /** Monotonic, ns. */
  readonly beganNs: number;
  seenNs: number;
  /** Last time that the password was given. */
  freshNs: number;
  streams: number;
};

const saveEveryNs = 60e9;
const kept = v.array(
  v.object({
    hash: v.string(),
    id: v.string(),
    name: v.string(),
    role: v.picklist(roles),
    from: v.string(),
    csrf: v.string(),
    beganMs: v.number(),
    seenMs: v.number(),
  }),
);

export class Logins {
  readonly #byHash = new Map<string, Login>();
  readonly #path: string;
  #savedNs = 0;

  constructor(
    directory: string,
    private readonly clock: Clock,
    private readonly idleMs: number,
  ) {
    this.#path = join(directory, "logins.json");
    this.#load();
  }

  /** Gives the secret for the cookie. Where there are too many, the one that was idle for longest ends. */
  begin(name: string, role: Role, from: string): string {
    const secret = newSecret();
    const nowNs = this.clock.monotonicNs();
    if (this.#byHash.size >= limits.loginsMax) {
      const [idlest] = [...this.#byHash].sort(([, a], [, b]) => a.seenNs - b.seenNs);
      if (idlest !== undefined) this.#byHash.delete(idlest[0]);
    }
    const times = { beganMs: this.clock.wallMs(), beganNs: nowNs, seenNs: nowNs, freshNs: nowNs };
    this.#byHash.set(hashOf(secret), {
      id: newSecret().slice(0, 12),
      name,
      role,
      from,
      csrf: newSecret(),
      streams: 0,
      ...times,
    });
    this.#save();
    return secret;
  }

  find(secret: string): Login | null {
    const hash = hashOf(secret);
    const login = this.#byHash.get(hash);
    if (login === undefined) return null;
    const nowNs = this.clock.monotonicNs();
    if (nowNs - login.seenNs > this.idleMs * 1e6 || nowNs - login.beganNs > limits.loginMsMax * 1e6) {
      this.#byHash.delete(hash);
      return null;
    }
    return login;
  }

  /** Only what a person does counts: a page that refreshes itself does not keep a login alive for ever. */
  touch(login: Login): void {
    login.seenNs = this.clock.monotonicNs();
    if (login.seenNs - this.#savedNs > saveEveryNs) this.#save();
  }

  isFresh(login: Login): boolean {
    return this.clock.monotonicNs() - login.freshNs < limits.freshMs * 1e6;
  }

  refresh(login: Login): void {
    login.freshNs = this.clock.monotonicNs();
  }

  get list(): readonly Login[] {
    return [...this.#byHash.values()];
  }

  /** Ends one by its id. */
  end(id: string): void {
    for (const [hash, login] of this.#byHash) if (login.id === id) this.#byHash.delete(hash);
    this.#save();
  }

  /** Ends all of an account: its password or role has changed. */
  endOf(name: string): void {
    for (const [hash, login] of this.#byHash) if (login.name === name) this.#byHash.delete(hash);
    this.#save();
  }

  #load(): void {
    const [nowMs, nowNs] = [this.clock.wallMs(), this.clock.monotonicNs()];
    try {
      for (const { hash, seenMs, ...each } of v.parse(kept, JSON.parse(readFileSync(this.#path, "utf8")))) {
        // A clock that was set back makes nothing younger than it is.
        const [idleMs, ageMs] = [nowMs - seenMs, nowMs - each.beganMs];
        if (idleMs < 0 || ageMs < 0) continue;
        // The password was not given to this supervisor: a destructive act asks for it.
        const times = { beganNs: nowNs - ageMs * 1e6, seenNs: nowNs - idleMs * 1e6, freshNs: Number.NEGATIVE_INFINITY };
        this.#byHash.set(hash, { ...each, streams: 0, ...times });
      }
    } catch {
      // Never written, or damaged: everybody logs in again.
      this.#byHash.clear();
    }
  }

  #save(): void {
    const [nowMs, nowNs] = [this.clock.wallMs(), this.clock.monotonicNs()];
    this.#savedNs = nowNs;
    const rows = [...this.#byHash].map(([hash, { id, name, role, from, csrf, beganMs, seenNs }]) => ({
      ...{ hash, id, name, role, from, csrf, beganMs },
      seenMs: nowMs - Math.round((nowNs - seenNs) / 1e6),
    }));
    try {
      writeFileSync(`${this.#path}.new`, JSON.stringify(rows), { mode: 0o600 });
      renameSync(`${this.#path}.new`, this.#path);
    } catch {
      // A full disk: logins hold until the supervisor ends.
    }
  }
}

export function sameToken(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}
