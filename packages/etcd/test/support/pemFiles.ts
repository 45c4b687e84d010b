/** The PEM files of a client, which a test rewrites. */
import type { TestCertificates } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

export interface PemFiles {
  readonly ca: string
  readonly certificate: string
  readonly key: string
  /** Writes the certificate authority, and the certificate and its key. */
  readonly write: (ca: TestCertificates.Certificate, client: TestCertificates.Certificate) => Effect.Effect<void>
}

export const make: Effect.Effect<PemFiles, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-kv-pem-"))),
    (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
  ),
  (directory) => {
    const [ca, certificate, key] = ["ca.pem", "client.pem", "client-key.pem"].map((name) => Path.join(directory, name))
    return {
      ca: ca!,
      certificate: certificate!,
      key: key!,
      write: (authority, client) =>
        Effect.sync(() => {
          Fs.writeFileSync(ca!, authority.cert)
          Fs.writeFileSync(certificate!, client.cert)
          Fs.writeFileSync(key!, client.key)
        })
    }
  }
)

/** Replaces the contents of a certificate's files, as an operator does for a server. */
export const replaceFiles = (
  files: TestCertificates.Certificate,
  { cert, key }: TestCertificates.Certificate
): Effect.Effect<void> =>
  Effect.sync(() => {
    Fs.writeFileSync(files.certFile, cert)
    Fs.writeFileSync(files.keyFile, key)
  })
