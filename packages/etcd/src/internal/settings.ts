/**
 * The checked options of a layer: valid endpoint addresses and usable TLS material.
 *
 * No message of this module repeats its input, because a URL may contain a password and a PEM file a key.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { X509Certificate } from "node:crypto"
import { createSecureContext } from "node:tls"
import * as Target from "../grpc/target.ts"
import type { TlsMaterial } from "../grpc/Transport.ts"
import type { Options, TlsOptions } from "./options.ts"

/** The options of a layer, checked and with their defaults. */
export interface Settings {
  readonly endpoints: ReadonlyArray<string>
  readonly prefix: string
  /** `undefined` for endpoints without TLS. */
  readonly tls: Tls | undefined
  readonly auth: { readonly username: string; readonly password: Redacted.Redacted } | undefined
  readonly deadline: Duration.Duration
  /** In milliseconds. */
  readonly keepAlive: { readonly time: number; readonly timeout: number }
}

/** The TLS settings of all endpoints. */
export interface Tls {
  readonly material: Effect.Effect<TlsMaterial>
  readonly serverName: string | undefined
  readonly insecureSkipVerify: boolean
}

/** Checks the options of a layer. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Settings, KvError.KvError> {
  const scheme = yield* commonScheme(options.endpoints)
  const prefix = options.prefix ?? ""
  if (!prefix.isWellFormed()) return yield* invalid("prefix has a lone surrogate; it must be well-formed Unicode")
  if (options.auth !== undefined && options.auth.username === "") return yield* invalid("auth.username is empty")
  const batching = options.batching === false ? undefined : Batching.check(options.batching)
  if (batching !== undefined) return yield* invalid(`batching.${batching}`)
  return {
    endpoints: [...new Set(options.endpoints.map(normalized))],
    prefix,
    tls: yield* tlsOf(scheme, options.tls),
    auth: options.auth,
    deadline: yield* positive("deadline", options.deadline ?? Deadline.defaultDeadline),
    keepAlive: {
      time: timerMillis(yield* positive("keepAlive.time", options.keepAlive?.time ?? "6 seconds")),
      timeout: timerMillis(yield* positive("keepAlive.timeout", options.keepAlive?.timeout ?? "5 seconds"))
    }
  }
})

/** Schemes and hosts are case-insensitive. Socket paths are not. */
const normalized = (endpoint: string): string =>
  isUnix(endpoint)
    ? endpoint.replace(/^[^:]*/, (scheme) => scheme.toLowerCase())
    : endpoint.replace(/\/$/, "").toLowerCase()

const isUnix = (endpoint: string): boolean => /^unixs?:/i.test(endpoint)

const positive = (name: string, input: Duration.Input): Effect.Effect<Duration.Duration, KvError.KvError> =>
  Option.match(Option.filter(Duration.fromInput(input), (duration) => Duration.toMillis(duration) > 0), {
    onNone: () => invalid(`${name} must be a duration longer than 0`),
    onSome: Effect.succeed
  })

/** Capped at 2^31-1 ms: Node's timers fire immediately above that. */
const timerMillis = (duration: Duration.Duration): number => Math.min(Duration.toMillis(duration), 2 ** 31 - 1)

type Scheme = "http" | "https"

const commonScheme = Effect.fnUntraced(
  function*(endpoints: ReadonlyArray<string>): Effect.fn.Return<Scheme, KvError.KvError> {
    if (endpoints.length === 0) {
      return yield* invalid("endpoints is empty; give at least one such as http://127.0.0.1:2379")
    }
    const problem = endpoints.map(endpointProblem).find((problem) => problem !== undefined)
    if (problem !== undefined) return yield* invalid(problem)
    const secure = endpoints.filter((endpoint) => /^(https|unixs):/i.test(endpoint)).length
    if (secure !== 0 && secure !== endpoints.length) {
      return yield* invalid("endpoints mixes http and https; all must be of one scheme")
    }
    return secure === 0 ? "http" : "https"
  }
)

const endpointProblem = (endpoint: string, index: number): string | undefined => {
  const problem = (text: string): string =>
    `endpoints[${index}] ${text}; an endpoint is http(s)://host:port or unix(s)://path`
  if (isUnix(endpoint)) {
    return Option.isSome(Target.fromUrl(endpoint)) ? undefined : problem("has no socket path")
  }
  const rest = /^https?:\/\/(.*)$/is.exec(endpoint)?.[1]?.replace(/\/$/, "")
  if (rest === undefined) return problem("does not begin with http:// or https://")
  if (rest.includes("@")) return problem("contains a user name, which belongs in `auth`")
  return addressProblem(rest, problem) ??
    (Option.isSome(Target.fromUrl(endpoint)) ? undefined : problem("has no valid host"))
}

/** The problem of a `host:port`, if it has one. */
const addressProblem = (address: string, problem: (text: string) => string): string | undefined => {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^[\]:/?#\s]+)(?::(.*))?$/s.exec(address) ?? []
  if (host === undefined) return problem("has no valid host, or more than a host and a port")
  if (port === undefined) return problem("has no port")
  return /^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536 ? undefined : problem("has no valid port")
}

const tlsOf = Effect.fnUntraced(
  function*(scheme: Scheme, tls: TlsOptions | undefined): Effect.fn.Return<Tls | undefined, KvError.KvError> {
    if (scheme === "http") {
      if (tls === undefined) return undefined
      return yield* invalid("tls is given, but the endpoints are http; use https endpoints")
    }
    const { ca, certificate, insecureSkipVerify, key, serverName } = tls ?? {}
    if ((certificate === undefined) !== (key === undefined)) {
      return yield* invalid("tls.certificate and tls.key belong together; one of them is missing")
    }
    yield* checkCertificate("tls.ca", ca)
    yield* checkCertificate("tls.certificate", certificate)
    // An effect rather than a value, so that printing the settings cannot show the key.
    const material = Effect.sync((): TlsMaterial => ({
      ca,
      certificate,
      key: key === undefined ? undefined : Redacted.value(key)
    }))
    yield* Effect.flatMap(material, ({ ca, certificate, key }) =>
      Effect.try({
        try: () => createSecureContext({ ca, cert: certificate, key }),
        // OpenSSL's message names the violated rule, never the key.
        catch: (error) => invalidError(`tls.certificate and tls.key cannot be used: ${(error as Error).message}`)
      }))
    return { material, serverName, insecureSkipVerify: insecureSkipVerify === true }
  }
)

const checkCertificate = (name: string, pem: string | undefined): Effect.Effect<void, KvError.KvError> =>
  pem === undefined ? Effect.void : Effect.try({
    try: () => void new X509Certificate(pem),
    catch: () => invalidError(`${name} is not a PEM certificate`)
  })

/**
 * The options in a URL: `http(s)://[user:password@]host:port[,host:port...]`, user and password
 * percent-encoded.
 */
export const fromUrl = Effect.fnUntraced(function*(url: string): Effect.fn.Return<Options, KvError.KvError> {
  const [, scheme, rest] = /^(https?):\/\/([^/?#]*)\/?$/is.exec(url) ?? []
  if (scheme === undefined || rest === undefined) return yield* invalidUrl
  const at = rest.lastIndexOf("@")
  const endpoints = rest.slice(at + 1).split(",").map((address) => `${scheme}://${address}`)
  return at === -1 ? { endpoints } : { endpoints, auth: yield* userInfo(rest.slice(0, at)) }
})

const userInfo = Effect.fnUntraced(
  function*(text: string): Effect.fn.Return<NonNullable<Options["auth"]>, KvError.KvError> {
    const colon = text.indexOf(":")
    if (colon <= 0) return yield* invalid("the URL's user information is not user:password")
    const [username, password] = yield* Effect.try({
      try: () => [decodeURIComponent(text.slice(0, colon)), decodeURIComponent(text.slice(colon + 1))] as const,
      catch: () => invalidError("the URL's user name or password is not correctly percent-encoded")
    })
    return { username, password: Redacted.make(password) }
  }
)

const invalidError = (message: string): KvError.KvError => KvError.make(new KvError.InvalidRequest({ message }))

const invalid = (message: string): Effect.Effect<never, KvError.KvError> => Effect.fail(invalidError(message))

const invalidUrl = invalid("the URL of an etcd store is http(s)://[user:password@]host:port[,host:port...]")
