// SPDX-License-Identifier: Apache-2.0
/**
 * The certificate of the page: the operator's, or one of the box's own (P-256), made at the first start and kept.
 *
 * The runtime cannot make X.509 certificates, so the openssl tool does. It is valid from 2024 on, so that a box whose clock
 * is wrong does not make one from the future, and for all names and addresses that the box has now.
 */
import { X509Certificate } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { explain, StatusError } from "#errors.ts";

export type ServerCertificate = { readonly certificate: string; readonly key: string; readonly fingerprint: string };

const toolMs = 20_000;
const notBefore = "20240101000000Z";
const notAfter = "20491231235959Z";
const namesMax = 64;

/** Reads the operator's files. @throws StatusError status.certificate */
export function readCertificate(certificatePath: string, keyPath: string): ServerCertificate {
  try {
    const certificate = readFileSync(certificatePath, "utf8");
    return { certificate, key: readFileSync(keyPath, "utf8"), fingerprint: fingerprintOf(certificate) };
  } catch (cause) {
    throw new StatusError("status.certificate", `${certificatePath} or ${keyPath} cannot be used: ${explain(cause)}`);
  }
}

/** The box's own, from `directory`, made where there is none. @throws StatusError status.certificate */
export async function ownCertificate(directory: string, names: readonly string[]): Promise<ServerCertificate> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const certificatePath = join(directory, "certificate.pem");
  const keyPath = join(directory, "key.pem");
  if (!existsSync(certificatePath) || !existsSync(keyPath)) {
    await makeCertificate(certificatePath, keyPath, names);
  }
  return readCertificate(certificatePath, keyPath);
}

export const fingerprintOf = (certificate: string): string => new X509Certificate(certificate).fingerprint256;

/** Names and addresses by which this box can be reached. */
export function ownNames(names: readonly string[]): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map((entry) => entry.address),
  );
  return [...new Set(["localhost", "127.0.0.1", "::1", ...names, ...addresses])].slice(0, namesMax);
}

async function makeCertificate(certificatePath: string, keyPath: string, names: readonly string[]): Promise<void> {
  const openssl = Bun.which("openssl");
  if (openssl === null) {
    throw new StatusError(
      "status.certificate",
      "the openssl tool is needed to make a certificate: apt-get install openssl, or name one in [status]",
    );
  }
  const alternatives = ownNames(names).map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`));
  const words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"];
  const subject = `/CN=${(names[0] ?? "holdfast").replaceAll(/[^\w.-]/g, "-")}`;
  const extensions = [
    `subjectAltName=${alternatives.join(",")}`,
    "extendedKeyUsage=serverAuth",
    "basicConstraints=critical,CA:FALSE",
  ];
  const paths = ["-keyout", `${keyPath}.new`, "-out", `${certificatePath}.new`];
  const dated = ["-not_before", notBefore, "-not_after", notAfter];
  const made = [...words, "-subj", subject, ...extensions.flatMap((each) => ["-addext", each]), ...paths];
  // Older tools do not know how to date a certificate back.
  const why =
    (await run(openssl, [...made, ...dated])) === null ? null : await run(openssl, [...made, "-days", "7300"]);
  if (why !== null) throw new StatusError("status.certificate", `openssl made no certificate: ${why}`);
  chmodSync(`${keyPath}.new`, 0o600);
  renameSync(`${keyPath}.new`, keyPath);
  renameSync(`${certificatePath}.new`, certificatePath);
}

/** null: done. Else what it said. */
async function run(program: string, words: readonly string[]): Promise<string | null> {
  const child = Bun.spawn([program, ...words], { stdio: ["ignore", "ignore", "pipe"], timeout: toolMs });
  const said = await child.stderr.text();
  return (await child.exited) === 0 ? null : (said.trim().split("\n").at(-1) ?? "");
}
