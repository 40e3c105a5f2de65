// SPDX-License-Identifier: Apache-2.0
/**
 * Takes secrets out of text before anything leaves the box: keys that look like secrets, PEM blocks, credentials in
 * addresses, cookies, authorization headers. Pure, and total: text in, text out.
 */

const hidden = "[redacted]";

const rules: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$)/g, hidden],
  [/\b([a-z][a-z0-9+.-]{1,16}:\/\/)[^\s/@:]+(?::[^\s/@]*)?@/gi, `$1${hidden}@`],
  [
    /\b(authorization|proxy-authorization|cookie|set-cookie|x-csrf-token)(["']?\s*[:=]\s*["']?)[^\r\n"']+/gi,
    `$1$2${hidden}`,
  ],
  [/\b(bearer|basic)\s+[\w+/=.~-]{8,}/gi, `$1 ${hidden}`],
  [
    /([\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|credential|requirepass|masterauth)[\w.-]*)(["']?(?:\s*[:=]\s*|\s+)["']?)[^\s"',;}]+/gi,
    `$1$2${hidden}`,
  ],
  [/\bhf_[\w-]{20,}/g, hidden],
];

export const redact = (text: string): string =>
  rules.reduce((kept, [pattern, put]) => kept.replaceAll(pattern, put), text);

/** Client addresses too: 192.0.2.7:4000 becomes [client]. */
export const withoutClients = (text: string): string =>
  text
    .replaceAll(/\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b/g, "[client]")
    .replaceAll(/\[[0-9a-f:]{3,45}\](?::\d{1,5})?/gi, "[client]");
