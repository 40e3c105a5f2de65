// SPDX-License-Identifier: Apache-2.0
/** The gate of the page: names we answer to, origins that may change something. */
import { expect, test } from "bun:test";
import { isOurHost, isOwnOrigin } from "#status/access/gate.ts";
import { parseStatusAddress } from "#status/settings.ts";

const names = new Set(["localhost", "127.0.0.1", "::1", "box.local"]);

test.each([
  ["localhost", true],
  ["localhost:8443", true],
  ["LOCALHOST:1", true],
  ["box.local.", true],
  ["[::1]:8443", true],
  ["127.0.0.1:65535", true],
  ["evil.example", false],
  ["localhost.evil.example", false],
  ["evil.example:8443@localhost", false],
  ["localhost:8443:8443", false],
  ["", false],
  ["localhost/", false],
  ["127.0.0.1 evil.example", false],
])("host %p: ours is %p", (host, ours) => {
  expect(isOurHost(host, names)).toBe(ours);
});

test("no host at all is refused", () => {
  expect(isOurHost(null, names)).toBe(false);
});

test.each([
  ["http://localhost:8443", "same-origin", true],
  ["http://localhost:8443", null, true],
  [null, "same-origin", true],
  [null, null, false],
  ["null", "same-origin", false],
  ["http://evil.example", null, false],
  ["http://localhost:9999", null, false],
  ["http://localhost:8443", "cross-site", false],
  ["http://localhost:8443", "same-site", false],
  [null, "none", false],
])("origin %p with fetch site %p: own is %p", (origin, site, own) => {
  expect(isOwnOrigin(origin, site, "localhost:8443")).toBe(own);
});

test("an address to listen on", () => {
  expect(parseStatusAddress("8443")).toMatchObject({ address: "127.0.0.1", port: 8443 });
  expect(parseStatusAddress("0.0.0.0:1")).toMatchObject({ address: "0.0.0.0", port: 1 });
  expect(parseStatusAddress("[::1]:0")).toMatchObject({ address: "::1", port: 0 });
  for (const wrong of ["", "65536", "a:b", "[x]:1", "1:2:3"]) expect(() => parseStatusAddress(wrong)).toThrow();
});
