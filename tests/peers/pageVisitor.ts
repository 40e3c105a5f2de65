// SPDX-License-Identifier: Apache-2.0
/**
 * An admin at the status page of a real supervisor, without a browser: claims it or logs in, reads, sends forms, brings a file.
 */
import { cookieOf, password } from "./pageHost.ts";

export class PageVisitor {
  private constructor(
    private readonly url: string,
    private readonly cookie: string,
    private readonly csrf: string,
  ) {}

  static async claim(url: string, code: string): Promise<PageVisitor> {
    return PageVisitor.#enter(url, "claim", { code, name: "admin", password, again: password });
  }

  static async logIn(url: string): Promise<PageVisitor> {
    return PageVisitor.#enter(url, "login", { name: "admin", password });
  }

  static async #enter(url: string, path: string, form: Record<string, string>): Promise<PageVisitor> {
    const cookie = cookieOf(await send(url, path, new URLSearchParams(form), {}));
    const account = await (await fetch(`${url}account`, { headers: { cookie } })).text();
    return new PageVisitor(url, cookie, /name="csrf" value="([^"]+)"/.exec(account)![1]!);
  }

  async get(path: string): Promise<string> {
    return await (await fetch(`${this.url}${path}`, { headers: { cookie: this.cookie } })).text();
  }

  /** Gives the status. */
  async post(path: string, form: Record<string, string>): Promise<number> {
    return (await this.#post(path, form)).status;
  }

  /** Gives the job of its installation. */
  async bring(bytes: string): Promise<string> {
    const begun = await this.#post("actions/update", { size: String(bytes.length) });
    const { id } = (await begun.json()) as { id: string };
    const headers = { cookie: this.cookie, "x-csrf-token": this.csrf };
    await send(this.url, `actions/update/slice?id=${id}&offset=0`, bytes, headers);
    const ended = await this.#post("actions/update/end", { id });
    return ((await ended.json()) as { job: string }).job;
  }

  #post(path: string, form: Record<string, string>): Promise<Response> {
    return send(this.url, path, new URLSearchParams({ csrf: this.csrf, ...form }), { cookie: this.cookie });
  }
}

const send = (
  url: string,
  path: string,
  body: string | URLSearchParams,
  headers: Record<string, string>,
): Promise<Response> =>
  fetch(`${url}${path}`, {
    ...{ method: "POST", redirect: "manual", body },
    headers: { ...headers, origin: url.slice(0, -1) },
  });
