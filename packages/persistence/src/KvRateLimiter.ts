/**
 * Effect's `RateLimiter` on `Kv`: limits for a whole fleet, such as that of an API which counts all replicas as one.
 *
 * The state of a limit is one key, which is updated by compare-and-set. Callers of one process that consume from the same
 * key at the same time share one write.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import type * as Scope from "effect/Scope"
import * as checked from "./internal/checked.ts"
import * as combinedUpdates from "./internal/combinedUpdates.ts"
import * as leasePool from "./internal/leasePool.ts"
import * as adaptive from "./internal/rateLimiter/adaptive.ts"
import * as fixedWindow from "./internal/rateLimiter/fixedWindow.ts"
import * as tokenBucket from "./internal/rateLimiter/tokenBucket.ts"

/**
 * Options of a rate limiter.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The prefix of its keys. A slash is added if it does not end with one. Default: `"rate-limiter/"`. */
  readonly prefix?: string | undefined
}

/**
 * Makes Effect's `RateLimiterStore` on `Kv`. Fails with `InvalidRequest` if the prefix is no part of a key.
 *
 * **Details**
 *
 * - Callers of one process share a write, in the order of their calls. Between processes, compare-and-set decides. A process
 *   that has written lets the others go first, so all get a share; how long it waits depends on how many it has seen within
 *   the last second, and is at most 500 ms. A call fails after 5 seconds of conflicts, and has taken nothing.
 * - A call that is rejected, or that changes nothing, writes nothing. If the process knew the state within the last second, a
 *   rejection needs no request either.
 * - A state that is no longer needed is deleted by its lease, a little later.
 * - Each call fails with `RateLimiterError`. Its reason is a `RateLimitStoreError` with the `KvError` as `cause` if the store
 *   could not be reached. Whether the program then proceeds or stops is its decision. Tokens of a call with an unknown outcome
 *   may be taken.
 * - If a response is lost, tokens may be counted twice, and never too few.
 * - A caller's `Deadline` bounds its wait. Updates are not fenced, because callers share them.
 *
 * **Gotchas**
 *
 * Time comes from the `Clock` of each client. As long as the clocks agree, no limit is exceeded. A client whose clock is
 * ahead sees windows end that much earlier, and lets the others wait for their clocks: the time of a state never goes
 * back. If a client is more than 5 seconds behind a state, it logs a warning. Keep the clocks synchronized.
 *
 * All clients must use the same limit and window for a key.
 *
 * @example
 * ```ts
 * import { KvRateLimiter } from "@effect-kv/persistence"
 * import { Duration, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KvRateLimiter.makeStore()
 *   const take = store.fixedWindow({ key: "api", tokens: 1, refillRate: Duration.seconds(60), limit: 2 })
 *   const counts = [(yield* take)[0], (yield* take)[0], (yield* take)[0]] // => [1, 2, 3]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const makeStore = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<RateLimiter.RateLimiterStore["Service"], KvError.KvError, Kv.Kv | Scope.Scope> {
  const kv = yield* Kv.Kv
  const prefix = yield* checked.prefix(options?.prefix ?? "rate-limiter/")
  const leases = yield* leasePool.make(kv)
  const shared = { kv, leases }
  const windows = yield* combinedUpdates.make({
    ...shared,
    schema: fixedWindow.State,
    ttlMillis: fixedWindow.ttlMillis
  })
  const buckets = yield* combinedUpdates.make({
    ...shared,
    schema: tokenBucket.State,
    ttlMillis: tokenBucket.ttlMillis
  })
  const adaptives = yield* combinedUpdates.make({ ...shared, schema: adaptive.State, ttlMillis: adaptive.ttlMillis })
  const skew = skewWarning()

  const update = <S extends { readonly at: number }, A>(
    updates: combinedUpdates.CombinedUpdates<S>,
    kind: "window" | "bucket" | "adaptive",
    key: string,
    f: (now: number) => (state: Option.Option<S>) => combinedUpdates.Step<S, A>
  ): Effect.Effect<A, RateLimiter.RateLimiterError> =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const consume = f(now)
      let aheadMillis = 0
      const result = yield* updates.update(`${prefix}${kind}/${key}`, (state) => {
        aheadMillis = Option.match(state, { onNone: () => 0, onSome: ({ at }) => at - now })
        return consume(state)
      })
      yield* skew(key, aheadMillis, now)
      return result
    }).pipe(
      Effect.mapError((cause) =>
        storeError(`the limit ${JSON.stringify(key)} could not be used: ${cause.message}`, cause)
      )
    )

  return RateLimiter.RateLimiterStore.of({
    fixedWindow: ({ key, limit, refillRate, tokens }) => {
      const refillMillis = Duration.toMillis(refillRate)
      return invalid(key, { tokens, refillMillis, limit }) ??
        update(windows, "window", key, (now) => fixedWindow.consume({ now, tokens, refillMillis, limit }))
    },
    tokenBucket: ({ allowOverflow, key, limit, refillRate, tokens }) => {
      const refillMillis = Duration.toMillis(refillRate)
      return invalid(key, { tokens, refillMillis, limit }) ??
        update(
          buckets,
          "bucket",
          key,
          (now) => tokenBucket.consume({ now, tokens, refillMillis, limit, allowOverflow })
        )
    },
    adaptiveConsume: ({ fallbackWindow, key, tokens }) => {
      const fallbackWindowMillis = Duration.toMillis(fallbackWindow)
      return invalid(key, { tokens, refillMillis: fallbackWindowMillis, limit: undefined }) ??
        update(adaptives, "adaptive", key, (now) => adaptive.consume({ now, tokens, fallbackWindowMillis }))
    },
    adaptiveFeedback: ({ epoch, key, retryAfter, status, tokens }) => {
      if (status !== 429 || retryAfter === undefined) return Effect.void
      const retryAfterMillis = Duration.toMillis(retryAfter)
      return invalid(key, { tokens, refillMillis: 1, limit: undefined }) ??
        update(adaptives, "adaptive", key, (now) => adaptive.rejected({ now, epoch, tokens, retryAfterMillis }))
    }
  })
})

/**
 * Provides Effect's `RateLimiterStore` from `Kv`: see {@link makeStore}.
 *
 * @example
 * ```ts
 * import { KvRateLimiter } from "@effect-kv/persistence"
 * import { Effect, Layer } from "effect"
 * import { RateLimiter } from "effect/persistence"
 *
 * const Limits = RateLimiter.layer.pipe(Layer.provide(KvRateLimiter.layerStore({ prefix: "limits/" })))
 *
 * const program = Effect.gen(function*() {
 *   const limiter = yield* RateLimiter.RateLimiter
 *   const { remaining } = yield* limiter.consume({ key: "api", limit: 10, window: "1 minute" })
 *   const left = remaining // => 9
 * }).pipe(Effect.provide(Limits))
 * ```
 *
 * @since 0.1.0
 */
export const layerStore = (options?: Options): Layer.Layer<RateLimiter.RateLimiterStore, KvError.KvError, Kv.Kv> =>
  Layer.effect(RateLimiter.RateLimiterStore, makeStore(options))

/**
 * Provides Effect's `RateLimiter` from `Kv`, for `RateLimiter` and `HttpClient.withRateLimiter`.
 *
 * @example
 * ```ts
 * import { KvRateLimiter } from "@effect-kv/persistence"
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const withLimiter = yield* RateLimiter.makeWithRateLimiter
 *   yield* Effect.succeed("sent").pipe(
 *     withLimiter({ key: "api", limit: 10, window: "1 minute", onExceeded: "delay" })
 *   ) // => "sent"
 * }).pipe(Effect.provide(KvRateLimiter.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<RateLimiter.RateLimiter, KvError.KvError, Kv.Kv> =>
  Layer.provide(RateLimiter.layer, layerStore(options))

const storeError = (message: string, cause?: unknown): RateLimiter.RateLimiterError =>
  new RateLimiter.RateLimiterError({
    reason: new RateLimiter.RateLimitStoreError(cause === undefined ? { message } : { message, cause })
  })

/** The failure of a request whose numbers cannot be stored; `undefined` if they can. */
const invalid = (
  key: string,
  { limit, refillMillis, tokens }: {
    readonly tokens: number
    readonly refillMillis: number
    readonly limit: number | undefined
  }
): Effect.Effect<never, RateLimiter.RateLimiterError> | undefined => {
  const problem = !(Number.isFinite(tokens) && tokens >= 0)
    ? `tokens must be a number of 0 or more, not ${tokens}`
    : limit !== undefined && !(Number.isFinite(limit) && limit > 0)
    ? `the limit must be a positive number, not ${limit}`
    : !(Number.isFinite(refillMillis) && refillMillis > 0)
    ? `the window must be positive and finite, and so the time in which a token is refilled, not ${refillMillis} ms`
    : undefined
  return problem === undefined ? undefined : Effect.fail(storeError(`limit ${JSON.stringify(key)}: ${problem}`))
}

/** How far the clocks of clients can differ without a warning. */
const tolerableSkewMillis = 5000

const warningIntervalMillis = 60_000

/** Warns, at most once a minute, of a state that is ahead of the client's clock. */
const skewWarning = () => {
  let warnedAt = Number.NEGATIVE_INFINITY
  return (key: string, aheadMillis: number, now: number): Effect.Effect<void> => {
    if (aheadMillis <= tolerableSkewMillis || Math.abs(now - warnedAt) < warningIntervalMillis) return Effect.void
    warnedAt = now
    return Effect.annotateLogs(
      Effect.logWarning(
        `effect-kv: a rate limit was last used ${
          Duration.format(Duration.millis(aheadMillis))
        } in the future of this clock; synchronize the clocks`
      ),
      { limit: key }
    )
  }
}
