// SPDX-License-Identifier: Apache-2.0
/**
 * What every request passes before anything looks at it: the name by which we were asked (DNS rebinding), where a change
 * comes from (CSRF), and the headers that every answer has. Pure.
 *
 * Sources: Fetch Metadata Request Headers; RFC 6454; Content Security Policy 3.
 */

/** No inline script or style, no other host, no frame around us, forms to us only. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

export const safeHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  // With no-referrer browsers would send `Origin: null` with our own forms.
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
  "x-frame-options": "DENY",
};

/** Whether `host` (the header, with or without a port) is a name or address of ours. */
export function isOurHost(host: string | null, names: ReadonlySet<string>): boolean {
  if (host === null) return false;
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(host);
  if (match === null) return false;
  return names.has(
    match[1]!
      .toLowerCase()
      .replace(/^\[|\]$/g, "")
      .replace(/\.$/, ""),
  );
}

/**
 * Whether a change may come from where it says. A browser always names the origin of a POST; what sends neither header is
 * no browser, and has no cookie of ours that anybody else could use: it is refused all the same.
 */
export function isOwnOrigin(origin: string | null, fetchSite: string | null, host: string | null): boolean {
  if (fetchSite !== null && fetchSite !== "same-origin") return false;
  if (origin === null) return fetchSite === "same-origin";
  if (!URL.canParse(origin) || host === null) return false;
  return new URL(origin).host === new URL(`http://${host}`).host || new URL(origin).host === host;
}
