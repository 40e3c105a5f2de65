// SPDX-License-Identifier: Apache-2.0
/**
 * Logins of browsers: a random cookie, of which only the hash is kept, in memory. Ends when idle, after twelve hours, when
 * told to, and with the supervisor. Each has a token for its forms.
 */
import { timingSafeEqual } from "node:crypto";
import type { Clock } from "#clock.ts";
import type { Role } from "#verbs.ts";
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

export class Logins {
  readonly #byHash = new Map<string, Login>();

  constructor(
    private readonly clock: Clock,
    private readonly idleMs: number,
  ) {}

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
  }

  /** Ends all of an account: its password or role has changed. */
  endOf(name: string): void {
    for (const [hash, login] of this.#byHash) if (login.name === name) this.#byHash.delete(hash);
  }
}

export function sameToken(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}
