/**
 * The TLS settings of a layer: certificates and keys as texts, or as files that are read again for each attempt to
 * connect.
 *
 * Messages name options and files. They never repeat contents, which may be a key.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { X509Certificate } from "node:crypto"
import * as Fs from "node:fs"
import { createSecureContext } from "node:tls"
import type { TlsMaterial } from "../grpc/Transport.ts"
import type { TlsOptions } from "./options.ts"
import * as realTime from "./realTime.ts"

/** The TLS settings of all endpoints. */
export interface Tls {
  /** The certificates and the key for one attempt to connect. */
  readonly material: Effect.Effect<TlsMaterial, string>
  readonly serverName: string | undefined
  readonly insecureSkipVerify: boolean
}

/** A certificate or key, and where it comes from. */
interface Source {
  /** The name of the option, and the file. */
  readonly name: string
  readonly isFile: boolean
  readonly text: Effect.Effect<string, string>
}

/** Checks the options. A file may be incomplete because it is being written, so it is read again for a second. */
export const make = Effect.fnUntraced(function*(tls: TlsOptions = {}): Effect.fn.Return<Tls, KvError.KvError> {
  const { files, insecureSkipVerify, key, serverName } = tls
  for (const item of ["ca", "certificate", "key"] as const) {
    if (tls[item] === undefined || files?.[item] === undefined) continue
    return yield* invalid(`tls.${item} and tls.files.${item} exclude each other`)
  }
  const ca = source("ca", tls.ca, files?.ca)
  const certificate = source("certificate", tls.certificate, files?.certificate)
  const privateKey = source("key", key === undefined ? undefined : Redacted.value(key), files?.key)
  if ((certificate === undefined) !== (privateKey === undefined)) {
    return yield* invalid("tls.certificate and tls.key belong together; one of them is missing")
  }
  const checked = read(ca, certificate, privateKey)
  const hasFiles = [ca, certificate, privateKey].some((source) => source?.isFile === true)
  const first = hasFiles ? Effect.retry(checked, { schedule: Schedule.spaced("100 millis"), times: 10 }) : checked
  const material = yield* Effect.mapError(realTime.provide(first), invalidError)
  return {
    // An effect rather than a value, so that printing the settings cannot show the key.
    material: hasFiles ? checked : Effect.sync(() => material),
    serverName,
    insecureSkipVerify: insecureSkipVerify === true
  }
})

const source = (
  option: keyof TlsMaterial,
  text: string | undefined,
  file: string | undefined
): Source | undefined => {
  if (text !== undefined) return { name: `tls.${option}`, isFile: false, text: Effect.sync(() => text) }
  if (file === undefined) return undefined
  const name = `tls.files.${option} (${file})`
  return {
    name,
    isFile: true,
    text: Effect.tryPromise({
      try: (signal) => Fs.promises.readFile(file, { encoding: "utf8", signal }),
      catch: (error) => `${name} cannot be read: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`
    })
  }
}

const read = Effect.fnUntraced(function*(
  ca: Source | undefined,
  certificate: Source | undefined,
  key: Source | undefined
): Effect.fn.Return<TlsMaterial, string> {
  const material: TlsMaterial = {
    ca: yield* ca?.text ?? nothing,
    certificate: yield* certificate?.text ?? nothing,
    key: yield* key?.text ?? nothing
  }
  for (const [source, text] of [[ca, material.ca], [certificate, material.certificate]] as const) {
    const problem = source === undefined ? undefined : certificatesProblem(String(text))
    if (problem !== undefined) return yield* Effect.fail(`${source!.name} ${problem}`)
  }
  if (key === undefined) return material
  yield* usable(key.name, { key: material.key })
  yield* usable(`${certificate!.name} and ${key.name}`, { cert: material.certificate, key: material.key })
  return material
})

const nothing = Effect.succeed(undefined)

/** The problem of a text with one or more certificates. Node ignores an incomplete one that follows a complete one. */
const certificatesProblem = (pem: string): string | undefined => {
  const begun = pem.match(/-----BEGIN [A-Z0-9 ]*CERTIFICATE-----/g)?.length ?? 0
  const complete = pem.match(/-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----[^-]*-----END \1-----/g) ?? []
  if (begun === 0) return "is not a PEM certificate"
  if (begun !== complete.length) return "is not a PEM certificate: it is incomplete"
  return complete.every(isCertificate) ? undefined : "is not a PEM certificate: one of its certificates is invalid"
}

const isCertificate = (pem: string): boolean => {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}

const usable = (
  what: string,
  material: { readonly cert?: TlsMaterial["certificate"]; readonly key: TlsMaterial["key"] }
): Effect.Effect<void, string> =>
  Effect.try({
    try: () => void createSecureContext(material),
    // OpenSSL's message names the violated rule, never the key.
    catch: (error) => `${what} cannot be used: ${(error as Error).message}`
  })

const invalidError = (message: string): KvError.KvError => KvError.make(new KvError.InvalidRequest({ message }))

const invalid = (message: string): Effect.Effect<never, KvError.KvError> => Effect.fail(invalidError(message))
