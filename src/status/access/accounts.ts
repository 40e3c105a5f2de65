// SPDX-License-Identifier: Apache-2.0
/**
 * Who may use the page: accounts with a role, and tokens for scripts. One JSON file that only its owner can read, replaced
 * whole. Passwords are kept as Argon2id (19 MiB, 2 passes), tokens as SHA-256 of 256 random bits.
 *
 * Hashing is done one at a time, so many logins at once cannot take the memory of the box.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { StatusError } from "#errors.ts";
import { type Role, roles } from "#verbs.ts";
import { limits } from "../settings.ts";

const argon = { algorithm: "argon2id", memoryCost: 19_456, timeCost: 2 } as const;

export const namePattern = /^[a-z0-9][a-z0-9._-]{0,31}$/i;

const account = v.object({ name: v.pipe(v.string(), v.regex(namePattern)), role: v.picklist(roles), hash: v.string() });
const token = v.object({
  id: v.string(),
  label: v.string(),
  role: v.picklist(roles),
  hash: v.string(),
  endsMs: v.number(),
});
const file = v.object({
  accounts: v.pipe(v.array(account), v.maxLength(limits.accountsMax)),
  tokens: v.pipe(v.array(token), v.maxLength(limits.tokensMax)),
});
export type Account = Omit<v.InferOutput<typeof account>, "hash">;
export type ApiToken = Omit<v.InferOutput<typeof token>, "hash">;

export const hashOf = (secret: string): string => new Bun.CryptoHasher("sha256").update(secret).digest("hex");
export const newSecret = (): string => randomBytes(32).toString("base64url");

export class Accounts {
  readonly #path: string;
  #kept: v.InferOutput<typeof file>;
  #hashing: Promise<unknown> = Promise.resolve();
  #nobodys: Promise<string> | null = null;

  /** @throws StatusError status.accounts where the file is there and cannot be read: nobody is let in by accident */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#path = join(directory, "accounts.json");
    this.#kept = readAccounts(this.#path);
    void this.#nobodysHash();
  }

  get list(): readonly Account[] {
    return this.#kept.accounts.map(({ name, role }) => ({ name, role }));
  }
  get tokens(): readonly ApiToken[] {
    return this.#kept.tokens.map(({ id, label, role, endsMs }) => ({ id, label, role, endsMs }));
  }
  get claimed(): boolean {
    return this.#kept.accounts.some((each) => each.role === "admin");
  }

  find(name: string): Account | null {
    return this.list.find((each) => each.name === name) ?? null;
  }

  /** Takes the same time for a name that nobody has. */
  async verify(name: string, password: string): Promise<Account | null> {
    const found = this.#kept.accounts.find((each) => each.name === name);
    const right = await this.#inTurn(async () => verifyHash(password, found?.hash ?? (await this.#nobodysHash())));
    return found !== undefined && right ? { name: found.name, role: found.role } : null;
  }

  /** @throws StatusError status.refused for a password that will not do */
  check(name: string, password: string): void {
    requirePassword(name, password);
  }

  /** Makes an account, or gives it a new password and role. @throws StatusError status.refused */
  async put(name: string, role: Role, password: string): Promise<void> {
    requirePassword(name, password);
    if (!namePattern.test(name)) throw new StatusError("status.refused", "A name is 1 to 32 letters, digits, . _ or -");
    const hash = await this.#inTurn(() => Bun.password.hash(password, argon));
    const others = this.#kept.accounts.filter((each) => each.name !== name);
    if (others.length >= limits.accountsMax)
      throw new StatusError("status.refused", `${limits.accountsMax} accounts at most`);
    if (role !== "admin" && this.claimed && !others.some((each) => each.role === "admin")) {
      throw new StatusError("status.refused", "The last admin stays one: make another first");
    }
    this.#write({ ...this.#kept, accounts: [...others, { name, role, hash }] });
  }

  /** @throws StatusError status.refused for the last admin */
  remove(name: string): void {
    const accounts = this.#kept.accounts.filter((each) => each.name !== name);
    if (!accounts.some((each) => each.role === "admin")) {
      throw new StatusError("status.refused", "The last admin stays: make another first");
    }
    this.#write({ ...this.#kept, accounts });
  }

  /** A new token; its secret is shown once and never again. @throws StatusError status.refused */
  grant(label: string, role: Role, endsMs: number): string {
    if (this.#kept.tokens.length >= limits.tokensMax)
      throw new StatusError("status.refused", `${limits.tokensMax} tokens at most`);
    const secret = `hf_${newSecret()}`;
    const made = { id: randomBytes(6).toString("hex"), label: label.slice(0, 64), role, hash: hashOf(secret), endsMs };
    this.#write({ ...this.#kept, tokens: [...this.#kept.tokens, made] });
    return secret;
  }

  revoke(id: string): void {
    this.#write({ ...this.#kept, tokens: this.#kept.tokens.filter((each) => each.id !== id) });
  }

  findToken(secret: string, nowMs: number): ApiToken | null {
    const hash = hashOf(secret);
    return this.#kept.tokens.find((each) => each.hash === hash && each.endsMs > nowMs) ?? null;
  }

  /** Hash of a secret that was thrown away, with the same cost as a real one. */
  #nobodysHash(): Promise<string> {
    this.#nobodys ??= Bun.password.hash(newSecret(), argon);
    return this.#nobodys;
  }

  #inTurn<Value>(act: () => Promise<Value>): Promise<Value> {
    const turn = this.#hashing.then(act);
    this.#hashing = turn.catch(() => {});
    return turn;
  }

  #write(kept: v.InferOutput<typeof file>): void {
    writeFileSync(`${this.#path}.new`, `${JSON.stringify(kept, null, 1)}\n`, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#kept = kept;
  }
}

/** @throws StatusError status.refused */
export function requirePassword(name: string, password: string): void {
  const { passwordLeast, passwordMost } = limits;
  if (password.length < passwordLeast || password.length > passwordMost) {
    throw new StatusError("status.refused", `A password has ${passwordLeast} to ${passwordMost} characters`);
  }
  if (password.toLowerCase().includes(name.toLowerCase()) || new Set(password).size < 4) {
    throw new StatusError("status.refused", "A password is not the name, and not one letter again and again");
  }
}

function readAccounts(path: string): v.InferOutput<typeof file> {
  if (!existsSync(path)) return { accounts: [], tokens: [] };
  try {
    return v.parse(file, JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    throw new StatusError("status.accounts", `${path} cannot be read; move it away to claim the page anew`, {}, cause);
  }
}

async function verifyHash(password: string, hash: string): Promise<boolean> {
  try {
    return await Bun.password.verify(password.slice(0, limits.passwordMost), hash);
  } catch {
    return false; // A hash of no known form opens nothing.
  }
}
