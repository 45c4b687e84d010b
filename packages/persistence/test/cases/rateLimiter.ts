/**
 * What the rate limiter promises, on any store. Time stands still unless a case moves it, so windows do not end by
 * themselves.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { KvRateLimiter } from "@effect-kv/persistence"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as SetClock from "../support/clock.ts"
import { type Case, client, clients, count, on } from "../support/store.ts"

export const limiterOn = (kv: Kv.Kv) =>
  Effect.flatMap(
    on(kv)(KvRateLimiter.makeStore()),
    (store) => Effect.provideService(RateLimiter.make, RateLimiter.RateLimiterStore, store)
  )

export const storeOn = (kv: Kv.Kv) => on(kv)(KvRateLimiter.makeStore())

const store = Effect.flatMap(client, storeOn)

const limiter = Effect.flatMap(client, limiterOn)

export type Algorithm = "fixed-window" | "token-bucket"

export const algorithms: ReadonlyArray<Algorithm> = ["fixed-window", "token-bucket"]

/** Runs with a clock that stands still. */
const still = <A, E, R>(f: (clock: SetClock.SetClock) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(SetClock.make(1_000_000_000_000), (clock) => Effect.provideService(f(clock), Clock.Clock, clock.clock))

/** How many of the calls were permitted. Fails if one failed for another reason than the limit. */
export const permitted = (exits: ReadonlyArray<Exit.Exit<unknown, RateLimiter.RateLimiterError>>) =>
  Effect.gen(function*() {
    let total = 0
    for (const exit of exits) {
      if (Exit.isSuccess(exit)) total++
      else if ((yield* Effect.flip(exit)).reason._tag !== "RateLimitExceeded") {
        return yield* Effect.failCause(exit.cause)
      }
    }
    return total
  })

const millis = ({ delay, limit, remaining, resetAfter }: RateLimiter.ConsumeResult) => ({
  delay: Duration.toMillis(delay),
  limit,
  remaining,
  resetAfter: Duration.toMillis(resetAfter)
})

const exceeded = (error: RateLimiter.RateLimiterError) =>
  error.reason._tag === "RateLimitExceeded" ? Duration.toMillis(error.reason.retryAfter) : assert.fail(error.message)

export const cases = (fleet: number): ReadonlyArray<Case> => [
  ...algorithms.map((algorithm): Case => ({
    title: `${algorithm}: ${fleet} clients together get exactly the limit, window after window`,
    run: still(({ move }) =>
      Effect.gen(function*() {
        const limiters = yield* Effect.forEach(yield* clients(fleet), limiterOn)
        for (const _ of count(3)) {
          const exits = yield* Effect.forEach(
            limiters.flatMap((limiter) => count(10).map(() => limiter)),
            (limiter) => Effect.exit(limiter.consume({ key: "api", limit: 12, window: "1 minute", algorithm })),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(yield* permitted(exits), 12)
          yield* move(60_000)
        }
      })
    )
  })),
  {
    title: "callers of one client that consume at once share one write, and are served in order",
    run: still(() =>
      Effect.gen(function*() {
        const kv = yield* client
        const store = yield* storeOn(kv)
        const take = store.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.seconds(1), limit: undefined })
        yield* take
        const before = (yield* kv.range(KeyRange.all)).revision
        const results = yield* Effect.forEach(count(100), () => take, { concurrency: "unbounded" })
        assert.deepStrictEqual(results.map(([count]) => count), count(100).map((i) => i + 2))
        assert.strictEqual((yield* kv.range(KeyRange.all)).revision, before + 1n)
      })
    )
  },
  {
    title: "fixed-window: reports what is left and when it resets, and fails until the window ends",
    run: still(({ move }) =>
      Effect.gen(function*() {
        const { consume } = yield* limiter
        const options = { key: "a", limit: 5, window: "1 minute" } as const
        assert.deepStrictEqual(millis(yield* consume(options)), {
          delay: 0,
          limit: 5,
          remaining: 4,
          resetAfter: 12_000
        })
        yield* move(10_000)
        assert.deepStrictEqual(millis(yield* consume({ ...options, tokens: 4 })), {
          delay: 0,
          limit: 5,
          remaining: 0,
          resetAfter: 50_000
        })
        assert.strictEqual(exceeded(yield* Effect.flip(consume(options))), 50_000)
        yield* move(49_999)
        assert.strictEqual(exceeded(yield* Effect.flip(consume(options))), 1)
        yield* move(1)
        assert.strictEqual((yield* consume(options)).remaining, 4)
      })
    )
  },
  {
    title: "fixed-window: callers that would rather wait get the delay of their window",
    run: still(({ move }) =>
      Effect.gen(function*() {
        const { consume } = yield* limiter
        const options = { key: "a", limit: 5, window: "1 minute", onExceeded: "delay" } as const
        const delays = yield* Effect.forEach(
          count(11),
          () => Effect.map(consume(options), ({ delay }) => Duration.toSeconds(delay))
        )
        assert.deepStrictEqual(delays, [0, 0, 0, 0, 0, 60, 60, 60, 60, 60, 120])
        yield* move(30_000)
        assert.deepStrictEqual(millis(yield* consume(options)), {
          delay: 90_000,
          limit: 5,
          remaining: -7,
          resetAfter: 114_000
        })
      })
    )
  },
  {
    title: "token-bucket: a token returns at the end of each interval, which a rejection does not restart",
    run: still(({ move }) =>
      Effect.gen(function*() {
        const { consume } = yield* limiter
        const options = { key: "a", limit: 5, window: "5 minutes", algorithm: "token-bucket" } as const
        assert.deepStrictEqual(millis(yield* consume({ ...options, tokens: 5 })), {
          delay: 0,
          limit: 5,
          remaining: 0,
          resetAfter: 300_000
        })
        yield* move(59_000)
        assert.strictEqual(exceeded(yield* Effect.flip(consume(options))), 1000)
        assert.strictEqual(exceeded(yield* Effect.flip(consume({ ...options, tokens: 2 }))), 61_000)
        yield* move(1000)
        assert.deepStrictEqual(millis(yield* consume(options)), {
          delay: 0,
          limit: 5,
          remaining: 0,
          resetAfter: 300_000
        })
      })
    )
  },
  {
    title: "token-bucket: tokens taken in advance keep the interval, and fractions keep their value",
    run: still(({ move }) =>
      Effect.gen(function*() {
        const { consume } = yield* limiter
        const options = {
          key: "a",
          limit: 5,
          window: "5 minutes",
          algorithm: "token-bucket",
          onExceeded: "delay"
        } as const
        yield* consume({ ...options, tokens: 4.5 })
        yield* move(45_000)
        const first = millis(yield* consume(options))
        const second = millis(yield* consume({ ...options, tokens: 1.25 }))
        assert.deepStrictEqual([first, second], [
          { delay: 15_000, limit: 5, remaining: -0.5, resetAfter: 315_000 },
          { delay: 75_000, limit: 5, remaining: -1.75, resetAfter: 375_000 }
        ])
        yield* move(75_000)
        assert.strictEqual((yield* consume({ ...options, tokens: 0 })).remaining, 0.25)
      })
    )
  },
  {
    title: "adaptive: a 429 starts a cooldown for all clients, then the limit is learned",
    run: still(({ move }) =>
      Effect.gen(function*() {
        const [one, other] = yield* Effect.forEach(yield* clients(2), storeOn)
        const options = { key: "a", fallbackLimit: 5, fallbackWindow: Duration.minutes(1) }
        const consume = (store: typeof one, tokens: number) =>
          Effect.map(
            store!.adaptiveConsume({ ...options, tokens }),
            ({ delay, epoch, phase }) => [phase, epoch, Duration.toMillis(delay)]
          )
        const reject = (store: typeof one, epoch: number, tokens: number, retryAfter: number) =>
          store!.adaptiveFeedback({
            key: "a",
            epoch,
            tokens,
            status: 429,
            retryAfter: Duration.millis(retryAfter)
          })
        assert.deepStrictEqual(yield* consume(one, 1), ["inactive", 0, 0])
        yield* one!.adaptiveFeedback({ key: "a", epoch: 0, tokens: 1, status: 429, retryAfter: undefined })
        assert.deepStrictEqual(yield* consume(other, 1), ["inactive", 0, 0])
        yield* reject(one, 0, 1, 1000)
        assert.deepStrictEqual(yield* consume(other, 1), ["cooldown", 0, 1000])
        yield* move(1000)
        assert.deepStrictEqual(yield* consume(other, 2), ["learning", 1, 0])
        yield* move(4000)
        assert.deepStrictEqual(yield* consume(one, 3), ["learning", 1, 0])
        yield* reject(other, 0, 1, 60_000)
        yield* reject(one, 1, 3, 6000)
        yield* move(6000)
        assert.deepStrictEqual(yield* consume(one, 1), ["learned", 2, 0])
        assert.deepStrictEqual(yield* consume(other, 1), ["learned", 2, 0])
        assert.deepStrictEqual(yield* consume(one, 1), ["learned", 2, 10_000])
        yield* reject(other, 2, 1, 5000)
        assert.deepStrictEqual(yield* consume(one, 1), ["cooldown", 2, 5000])
      })
    )
  },
  {
    title: "a request that cannot be stored is rejected, and changes nothing",
    run: still(() =>
      Effect.gen(function*() {
        const kv = yield* client
        const limits = yield* storeOn(kv)
        const valid = { key: "a", tokens: 1, refillRate: Duration.seconds(1), limit: 5 }
        const rejected = [
          limits.fixedWindow({ ...valid, tokens: Number.NaN }),
          limits.fixedWindow({ ...valid, tokens: -1 }),
          limits.fixedWindow({ ...valid, refillRate: Duration.infinity }),
          limits.tokenBucket({ ...valid, limit: 0, allowOverflow: true }),
          limits.tokenBucket({ ...valid, refillRate: Duration.zero, allowOverflow: false })
        ]
        for (const call of rejected) {
          const error = yield* Effect.flip(call)
          assert.strictEqual(error.reason._tag, "RateLimitStoreError")
          assert.match(error.message, /^limit "a": .* not /)
        }
        assert.strictEqual(yield* kv.count(KeyRange.all), 0)
      })
    )
  },
  {
    title: "a state that is not one of this module is a failure that names the limit",
    run: still(() =>
      Effect.gen(function*() {
        const kv = yield* client
        yield* kv.put("rate-limiter/window/a", "7")
        const limits = yield* storeOn(kv)
        const error = yield* Effect.flip(
          limits.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.seconds(1), limit: 5 })
        )
        assert.match(error.message, /the limit "a" could not be used/)
      })
    )
  },
  {
    title: "a prefix that is no part of a key is refused, and one without a slash gets one",
    run: still(() =>
      Effect.gen(function*() {
        const kv = yield* client
        for (const prefix of ["", "\ud800"]) {
          const error = yield* Effect.flip(on(kv)(KvRateLimiter.makeStore({ prefix })))
          assert.strictEqual(error.reason._tag, "InvalidRequest")
        }
        const limits = yield* on(kv)(KvRateLimiter.makeStore({ prefix: "app" }))
        yield* limits.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.seconds(10), limit: 5 })
        const { entries } = yield* kv.range(KeyRange.all)
        assert.deepStrictEqual(entries.map(({ key }) => key), ["app/window/a"])
      })
    )
  },
  {
    title: "after its layer was closed, a call fails with the store's reason",
    run: still(() =>
      Effect.gen(function*() {
        const closed = yield* Effect.scoped(store)
        const error = yield* Effect.flip(
          closed.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.seconds(1), limit: 5 })
        )
        const cause = error.reason._tag === "RateLimitStoreError" ? error.reason.cause : undefined
        assert.isTrue(KvError.isKvError(cause) && cause.reason._tag === "Closed")
      })
    )
  }
]
