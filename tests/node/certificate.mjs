// Certificates for test servers, made by openssl when they are needed.

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A certificate for localhost and 127.0.0.1 that nobody else has signed, in a directory that `remove()` takes away. */
export function makeCertificate() {
  const directory = mkdtempSync(join(tmpdir(), 'fanfare-certificate-'));
  const [cert, key] = ['certificate.pem', 'key.pem'].map((name) => join(directory, name));
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE',
    '-keyout', key, '-out', cert,
  ], { stdio: 'pipe' });
  chmodSync(key, 0o600);
  const pem = readFileSync(cert, 'utf8');
  const spki = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  return {
    cert,
    key,
    /** What a client trusts. */
    ca: pem,
    /** How Chromium is told of it: --ignore-certificate-errors-spki-list. */
    spki: createHash('sha256').update(spki).digest('base64'),
    /** The server's arguments. */
    args: [`--tls-cert=${cert}`, `--tls-key=${key}`],
    remove: () => rmSync(directory, { recursive: true }),
  };
}
