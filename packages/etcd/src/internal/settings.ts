/**
 * The checked options of a layer: valid endpoint addresses and usable TLS material.
 *
 * No message of this module repeats its input, because a URL may contain a password and a PEM file a key.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as addresses from "./addresses.ts"
import * as endpointLists from "./endpointLists.ts"
import { nameOf } from "./nameOf.ts"
import type { AuthOptions, Options } from "./options.ts"
import * as tls from "./tls.ts"

/** The options of a layer, checked and with their defaults. */
export interface Settings {
  /** The first list of endpoints. */
  readonly endpoints: ReadonlyArray<string>
  /** Passes on the lists that replace it. */
  readonly followEndpoints: endpointLists.EndpointLists["follow"]
  /** How often the member list is read. `undefined`: never. */
  readonly membersInterval: Duration.Duration | undefined
  readonly prefix: string
  /** `undefined` for endpoints without TLS. */
  readonly tls: tls.Tls | undefined
  readonly auth: Auth | undefined
  readonly deadline: Duration.Duration
  /** In milliseconds. */
  readonly keepAlive: { readonly time: number; readonly timeout: number }
  /** `undefined`: calls, requests and watches are not measured. */
  readonly meter: KvMetrics.Meter | undefined
}

/** The user of a layer. */
export interface Auth {
  readonly username: string
  /** Runs in the context in which the layer was built, not in that of a caller. */
  readonly password: Effect.Effect<Redacted.Redacted, KvError.KvError>
  readonly mayChange: boolean
}

/** Checks the options of a layer. The scope is that of a stream of endpoints. */
export const make = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Settings, KvError.KvError, Scope.Scope> {
    const prefix = options.prefix ?? ""
    if (!prefix.isWellFormed()) return yield* invalid("prefix has a lone surrogate; it must be well-formed Unicode")
    if (options.auth?.username === "") return yield* invalid("auth.username is empty")
    const batching = options.batching === false ? undefined : Batching.check(options.batching)
    if (batching !== undefined) return yield* invalid(`batching.${batching}`)
    const deadline = yield* positive("deadline", options.deadline ?? Deadline.defaultDeadline)
    const keepAlive = {
      time: timerMillis(yield* positive("keepAlive.time", options.keepAlive?.time ?? "6 seconds")),
      timeout: timerMillis(yield* positive("keepAlive.timeout", options.keepAlive?.timeout ?? "5 seconds"))
    }
    // Last, because a stream may take long to emit its first list.
    const { first, follow } = yield* endpointLists.make(options.endpoints)
    return {
      endpoints: first,
      followEndpoints: follow,
      membersInterval: options.followMembers === true ? Duration.minutes(1) : undefined,
      prefix,
      tls: yield* tlsOf(first, options),
      auth: options.auth === undefined ? undefined : yield* authOf(options.auth),
      deadline,
      keepAlive,
      meter: options.metrics === false ? undefined : new KvMetrics.Meter(yield* Effect.context<never>())
    }
  }
)

const positive = (name: string, input: Duration.Input): Effect.Effect<Duration.Duration, KvError.KvError> =>
  Option.match(Option.filter(Duration.fromInput(input), (duration) => Duration.toMillis(duration) > 0), {
    onNone: () => invalid(`${name} must be a duration longer than 0`),
    onSome: Effect.succeed
  })

/** Capped at 2^31-1 ms: Node's timers fire immediately above that. */
const timerMillis = (duration: Duration.Duration): number => Math.min(Duration.toMillis(duration), 2 ** 31 - 1)

const tlsOf = (
  endpoints: ReadonlyArray<string>,
  options: Options
): Effect.Effect<tls.Tls | undefined, KvError.KvError> => {
  if (endpoints.every(addresses.isSecure)) return tls.make(options.tls)
  return options.tls === undefined
    ? Effect.succeed(undefined)
    : invalid("tls is given, but the endpoints are http; use https endpoints")
}

const authOf = ({ password, username }: AuthOptions): Effect.Effect<Auth> => {
  if (Redacted.isRedacted(password)) {
    return Effect.succeed({ username, password: Effect.succeed(password), mayChange: false })
  }
  return Effect.map(Effect.context<never>(), (context) => ({
    username,
    password: password.pipe(
      Effect.setContext(context),
      Effect.catchCause((cause) =>
        KvError.fail(new KvError.Unavailable({ message: `the effect of auth.password failed: ${nameOf(cause)}` }))
      )
    ),
    mayChange: true
  }))
}

/** The options in a URL. */
interface UrlOptions {
  readonly endpoints: ReadonlyArray<string>
  readonly auth?: { readonly username: string; readonly password: Redacted.Redacted }
}

/**
 * The options in a URL: `http(s)://[user:password@]host:port[,host:port...]`, user and password
 * percent-encoded.
 */
export const fromUrl = Effect.fnUntraced(function*(url: string): Effect.fn.Return<UrlOptions, KvError.KvError> {
  const [, scheme, rest] = /^(https?):\/\/([^/?#]*)\/?$/is.exec(url) ?? []
  if (scheme === undefined || rest === undefined) return yield* invalidUrl
  const at = rest.lastIndexOf("@")
  const endpoints = rest.slice(at + 1).split(",").map((address) => `${scheme}://${address}`)
  return at === -1 ? { endpoints } : { endpoints, auth: yield* userInfo(rest.slice(0, at)) }
})

const userInfo = Effect.fnUntraced(
  function*(text: string): Effect.fn.Return<NonNullable<UrlOptions["auth"]>, KvError.KvError> {
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
