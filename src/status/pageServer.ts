// SPDX-License-Identifier: Apache-2.0
/**
 * The listener of the page: an address, TLS where it is not loopback, the limits that the runtime enforces. Gets a Page;
 * gives an open door and how to reach it.
 *
 * Runs in the page's own thread. A quiet stream is kept open by its route; every other request ends after 30 s.
 */
import type { Server } from "bun";
import { explain, StatusError } from "#errors.ts";
import { ownCertificate, readCertificate, type ServerCertificate } from "./access/certificate.ts";
import { cookieName, openApp } from "./app.ts";
import { type Page, pageDirectory } from "./page.ts";
import { isLoopback, limits } from "./settings.ts";

export type OpenedDoor = {
  readonly url: string;
  readonly fingerprint: string | null;
  /** Cuts everybody off and listens anew at the same place. */
  reopen(): Promise<void>;
  close(): Promise<void>;
};

/** @throws StatusError status.listen, status.certificate */
export async function openDoor(page: Page, names: readonly string[]): Promise<OpenedDoor> {
  const { address, tls } = page.settings;
  const certificate = tls || !isLoopback(address) ? await certificateOf(page, names) : null;
  const cookie = { name: "", secure: certificate !== null };
  let app = openApp(page, cookie);
  const fetch: Fetch = (request, from) => app.fetch(request, from);
  let server = listen(page, certificate, page.settings.port, fetch);
  const port = server.port ?? 0;
  // The cookie's name holds the port, which is known only now.
  cookie.name = cookieName(port, cookie.secure);
  app = openApp(page, cookie);
  const shown = address.includes(":") ? `[${address}]` : address;
  const url = `${certificate === null ? "http" : "https"}://${shown}:${port}/`;
  const reopen = async (): Promise<void> => {
    await server.stop(true);
    server = listen(page, certificate, port, fetch);
  };
  return { url, fingerprint: certificate?.fingerprint ?? null, reopen, close: () => server.stop(true) };
}

async function certificateOf(page: Page, names: readonly string[]): Promise<ServerCertificate> {
  const { certificate, key } = page.settings;
  if (certificate !== undefined && key !== undefined) return readCertificate(certificate, key);
  return await ownCertificate(pageDirectory(page.directory), names);
}

type Fetch = (request: Request, from: { from: string; keepOpen: () => void }) => Response | Promise<Response>;

function listen(page: Page, certificate: ServerCertificate | null, port: number, fetch: Fetch): Server<undefined> {
  const { address } = page.settings;
  try {
    return Bun.serve({
      hostname: address,
      port,
      development: false,
      // Bun 1.4.5 shares the port with whoever listens there too, unless told not to, where development is off (measured).
      reusePort: false,
      idleTimeout: limits.requestIdleSeconds,
      maxRequestBodySize: limits.bodyBytesMax,
      ...(certificate === null ? {} : { tls: { cert: certificate.certificate, key: certificate.key } }),
      fetch: (request, server) => {
        const from = server.requestIP(request)?.address ?? "";
        return fetch(request, { from, keepOpen: () => server.timeout(request, 0) });
      },
      error: () => new Response("this could not be done\n", { status: 500 }),
    });
  } catch (cause) {
    throw new StatusError(
      "status.listen",
      `the status page cannot listen on ${address} port ${port}: ${explain(cause)}`,
    );
  }
}
