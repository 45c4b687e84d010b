/**
 * Certificates for TLS tests, made while the test runs: an authority, and server and client certificates signed by it, valid
 * or not.
 *
 * Made with `node:crypto` and a few lines of DER, without the `openssl` program or a library. It supports only what tests
 * need: ECDSA on P-256, version 3. Not for production.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"

/**
 * A certificate with its private key, as PEM text and as files. The files exist while the authority's scope is open.
 *
 * @since 0.1.0
 */
export interface Certificate {
  readonly cert: string
  readonly key: string
  readonly certFile: string
  readonly keyFile: string
}

/**
 * Options of a certificate.
 *
 * @since 0.1.0
 */
export interface CertificateOptions {
  /** etcd uses that of a client as the name of the user. */
  readonly commonName?: string | undefined
  /** Host names and IP addresses. Default: `localhost` and `127.0.0.1` for a server, none for a client. */
  readonly names?: ReadonlyArray<string> | undefined
  /** The start of validity, relative to now. Default: an hour ago. Negative means the past: `{ hours: -2 }`. */
  readonly validFrom?: Duration.Input | undefined
  /** The end of validity, relative to now. Default: in a day. */
  readonly validUntil?: Duration.Input | undefined
}

/**
 * A certificate authority.
 *
 * @since 0.1.0
 */
export interface Authority {
  /** The certificate of the authority, which the other side must trust. */
  readonly ca: Certificate
  /** Makes a server certificate. */
  readonly server: (options?: CertificateOptions) => Effect.Effect<Certificate>
  /** Makes a client certificate. */
  readonly client: (options?: CertificateOptions) => Effect.Effect<Certificate>
  /** A server certificate that expired an hour ago and is valid otherwise. */
  readonly expiredServer: (options?: CertificateOptions) => Effect.Effect<Certificate>
}

/**
 * Makes an authority. Two authorities do not trust each other, even if they have the same name.
 *
 * @example
 * ```ts
 * import { TestCertificates } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const authority = yield* TestCertificates.make("test authority")
 *   const server = yield* authority.server({ names: ["127.0.0.1"] })
 *   server.cert.startsWith("-----BEGIN CERTIFICATE-----") // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (commonName = "effect-kv test authority"): Effect.Effect<Authority, never, Scope.Scope> =>
  Effect.map(temporaryDirectory, (directory) => {
    const keys = generateKeys()
    const subject = { name: commonName, keys }
    const ca = write(directory, "ca", keys, {
      ...defaults,
      subject,
      issuer: subject,
      isAuthority: true,
      names: [],
      usages: []
    })
    let made = 0
    const issue = (
      kind: string,
      usages: ReadonlyArray<string>,
      options: CertificateOptions,
      names: ReadonlyArray<string>
    ) =>
      Effect.sync(() => {
        const keys = generateKeys()
        return write(directory, `${kind}-${++made}`, keys, {
          subject: { name: options.commonName ?? kind, keys },
          issuer: subject,
          isAuthority: false,
          names: options.names ?? names,
          usages,
          validFrom: options.validFrom ?? defaults.validFrom,
          validUntil: options.validUntil ?? defaults.validUntil
        })
      })
    // With client certificates required, etcd connects to itself with its server certificate as the client certificate.
    const server = (options: CertificateOptions = {}) =>
      issue("server", [oid.serverAuth, oid.clientAuth], options, ["localhost", "127.0.0.1"])
    return {
      ca,
      server,
      client: (options = {}) => issue("client", [oid.clientAuth], options, []),
      expiredServer: (options = {}) => server({ validFrom: { hours: -2 }, validUntil: { hours: -1 }, ...options })
    }
  })

const defaults = { validFrom: { hours: -1 }, validUntil: { hours: 24 } } as const

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-kv-certificates-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

// -----------------------------------------------------------------------------
// X.509, as far as needed (RFC 5280)
// -----------------------------------------------------------------------------

interface Keys {
  readonly publicKey: Crypto.KeyObject
  readonly privateKey: Crypto.KeyObject
}

interface Party {
  readonly name: string
  readonly keys: Keys
}

interface Contents {
  readonly subject: Party
  readonly issuer: Party
  readonly isAuthority: boolean
  readonly names: ReadonlyArray<string>
  readonly usages: ReadonlyArray<string>
  readonly validFrom: Duration.Input
  readonly validUntil: Duration.Input
}

const oid = {
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  ecdsaWithSha256: "1.2.840.10045.4.3.2"
}

const generateKeys = (): Keys => Crypto.generateKeyPairSync("ec", { namedCurve: "prime256v1" })

const write = (directory: string, name: string, keys: Keys, contents: Contents): Certificate => {
  const der = certificate(contents)
  const cert = `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{64}/g, "$&\n").trimEnd()}\n` +
    `-----END CERTIFICATE-----\n`
  const key = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  const certFile = Path.join(directory, `${name}.crt`)
  const keyFile = Path.join(directory, `${name}.key`)
  Fs.writeFileSync(certFile, cert)
  Fs.writeFileSync(keyFile, key, { mode: 0o600 })
  return { cert, key, certFile, keyFile }
}

const certificate = (contents: Contents): Buffer => {
  const { isAuthority, issuer, names, subject, usages, validFrom, validUntil } = contents
  const algorithm = der.sequence(der.objectId(oid.ecdsaWithSha256))
  const toBeSigned = der.sequence(
    der.explicit(0, der.integer(Buffer.of(2))),
    der.integer(Crypto.randomBytes(16)),
    algorithm,
    distinguishedName(issuer.name),
    der.sequence(der.time(fromNow(validFrom)), der.time(fromNow(validUntil))),
    distinguishedName(subject.name),
    subject.keys.publicKey.export({ type: "spki", format: "der" }),
    der.explicit(
      3,
      der.sequence(
        extension(oid.basicConstraints, true, isAuthority ? der.sequence(der.boolean(true)) : der.sequence()),
        // digitalSignature for servers and clients, keyCertSign and cRLSign for the authority
        extension(oid.keyUsage, true, isAuthority ? der.bits(0x06, 1) : der.bits(0x80, 7)),
        extension(oid.subjectKeyIdentifier, false, der.octets(keyIdentifier(subject.keys))),
        extension(oid.authorityKeyIdentifier, false, der.sequence(der.implicit(0, keyIdentifier(issuer.keys)))),
        ...(usages.length === 0
          ? []
          : [extension(oid.extendedKeyUsage, false, der.sequence(...usages.map(der.objectId)))]),
        ...(names.length === 0
          ? []
          : [extension(oid.subjectAltName, false, der.sequence(...names.map(alternativeName)))])
      )
    )
  )
  const signature = Crypto.sign("sha256", toBeSigned, issuer.keys.privateKey)
  return der.sequence(toBeSigned, algorithm, der.tagged(0x03, Buffer.of(0), signature))
}

const fromNow = (offset: Duration.Input): Date => new Date(Date.now() + Duration.toMillis(offset))

const distinguishedName = (commonName: string) =>
  der.sequence(der.tagged(0x31, der.sequence(der.objectId(oid.commonName), der.utf8(commonName))))

const keyIdentifier = (keys: Keys): Buffer =>
  Crypto.createHash("sha1").update(keys.publicKey.export({ type: "spki", format: "der" })).digest()

const extension = (id: string, critical: boolean, value: Buffer) =>
  der.sequence(der.objectId(id), ...(critical ? [der.boolean(true)] : []), der.octets(value))

const alternativeName = (name: string): Buffer => {
  if (Net.isIPv4(name)) return der.implicit(7, Buffer.from(name.split(".").map(Number)))
  if (name === "::1") return der.implicit(7, Buffer.from([...new Array<number>(15).fill(0), 1]))
  return der.implicit(2, Buffer.from(name, "ascii"))
}

/** Distinguished encoding rules: a tag, a length and the contents. */
const der = {
  tagged: (tag: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
    const inside = Buffer.concat(parts)
    if (inside.length < 0x80) return Buffer.concat([Buffer.of(tag, inside.length), inside])
    const length = Buffer.alloc(4)
    length.writeUInt32BE(inside.length)
    const significant = length.subarray(length.findIndex((byte) => byte !== 0))
    return Buffer.concat([Buffer.of(tag, 0x80 | significant.length), significant, inside])
  },
  sequence: (...parts: ReadonlyArray<Buffer>) => der.tagged(0x30, ...parts),
  explicit: (number: number, inside: Buffer) => der.tagged(0xa0 | number, inside),
  implicit: (number: number, bytes: Buffer) => der.tagged(0x80 | number, bytes),
  boolean: (value: boolean) => der.tagged(0x01, Buffer.of(value ? 0xff : 0)),
  octets: (bytes: Buffer) => der.tagged(0x04, bytes),
  bits: (byte: number, unused: number) => der.tagged(0x03, Buffer.of(unused, byte)),
  utf8: (text: string) => der.tagged(0x0c, Buffer.from(text, "utf8")),
  /** A positive integer in the fewest bytes. */
  integer: (bytes: Buffer) => {
    const first = bytes.findIndex((byte) => byte !== 0)
    const significant = first < 0 ? Buffer.of(0) : bytes.subarray(first)
    return der.tagged(0x02, significant[0]! & 0x80 ? Buffer.concat([Buffer.of(0), significant]) : significant)
  },
  objectId: (id: string) => {
    const [first = 0, second = 0, ...rest] = id.split(".").map(Number)
    return der.tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]))
  },
  /** UTCTime, which RFC 5280 requires before 2050. */
  time: (date: Date) => der.tagged(0x17, Buffer.from(date.toISOString().replace(/[-:T]|\.\d+/g, "").slice(2), "ascii"))
}

const base128 = (value: number): ReadonlyArray<number> => {
  const bytes = [value & 0x7f]
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift(0x80 | (rest & 0x7f))
  return bytes
}
