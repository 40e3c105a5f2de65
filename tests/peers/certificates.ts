// SPDX-License-Identifier: Apache-2.0
/**
 * Certificates for tests: an authority, a server, boxes. Gets names; gives PEM texts and files, made with the openssl tool
 * into a directory that goes with the disposal. P-256 keys, valid for a day.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Certificate = {
  readonly certificate: string;
  readonly privateKey: string;
  readonly certificateFile: string;
  readonly keyFile: string;
};

export class Authority implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "holdfast-certificates-"));
  readonly file = join(this.directory, "ca.crt");

  constructor(name = "test authority") {
    this.#run(
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
      ...["-subj", `/CN=${name}`, "-keyout", "ca.key", "-out", "ca.crt"],
    );
  }

  get authority(): string {
    return readFileSync(this.file, "utf8");
  }

  /** Signs a certificate for `name`; a server's also names loopback. */
  issue(name: string): Certificate {
    const extension = join(this.directory, "names.ext");
    Bun.spawnSync(["sh", "-c", `echo 'subjectAltName=IP:127.0.0.1,DNS:localhost' > '${extension}'`]);
    this.#run(
      ...["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${name}`],
      ...["-keyout", `${name}.key`, "-out", `${name}.csr`],
    );
    this.#run(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
      ...["-days", "1", "-extfile", "names.ext", "-out", `${name}.crt`],
    );
    const certificateFile = join(this.directory, `${name}.crt`);
    const keyFile = join(this.directory, `${name}.key`);
    return {
      certificate: readFileSync(certificateFile, "utf8"),
      privateKey: readFileSync(keyFile, "utf8"),
      certificateFile,
      keyFile,
    };
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  #run(...args: string[]): void {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args], { cwd: this.directory });
    if (exitCode !== 0) throw new RangeError(`openssl ${args[0]}: ${stderr}`);
  }
}
