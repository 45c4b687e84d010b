/**
 * The rate limiter in memory: compared with Effect's own, with contending clients, lost responses, and clocks that differ.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { type Algorithm, algorithms, limiterOn, permitted, storeOn } from "./cases/rateLimiter.ts"
import * as SetClock from "./support/clock.ts"
import { contended, type Options, randomOf } from "./support/contended.ts"
import { count } from "./support/store.ts"

type Store = RateLimiter.RateLimiterStore["Service"]

const connect = (store: MemoryStore.MemoryStore) => Effect.flatMap(store.connect, Kv.make)

const limits = Effect.flatMap(Effect.flatMap(MemoryStore.make(), connect), storeOn)

/** Effect's own, in the memory of one process. */
const reference: Effect.Effect<Store> = Effect.scoped(
  Effect.map(Layer.build(RateLimiter.layerStoreMemory), Context.get(RateLimiter.RateLimiterStore))
)

/** A random call, with a result that can be compared. */
const callOf = (random: () => number) => {
  const pick = <A>(...all: ReadonlyArray<A>): A => all[Math.floor(random() * all.length)]!
  const key = pick("a", "b")
  const kind = pick("fixed", "fixed", "bucket", "bucket", "consume", "feedback")
  const tokens = pick(0, 1, 1, 2, 3, 0.5)
  const limit = pick(4, undefined)
  const allowOverflow = pick(true, false)
  const epoch = pick(0, 1, 2, 3)
  const retryAfter = Duration.seconds(pick(0, 1, 5, 7200))
  return (store: Store): Effect.Effect<unknown, RateLimiter.RateLimiterError> => {
    switch (kind) {
      case "fixed":
        return store.fixedWindow({ key, tokens, refillRate: Duration.seconds(3), limit })
      case "bucket":
        return store.tokenBucket({ key, tokens, refillRate: Duration.seconds(3), limit: 4, allowOverflow })
      case "consume":
        return store.adaptiveConsume({ key, tokens, fallbackLimit: 5, fallbackWindow: Duration.seconds(10) })
      default:
        return store.adaptiveFeedback({ key, epoch, tokens, status: 429, retryAfter })
    }
  }
}

describe("a rate limiter and Effect's own in memory", () => {
  it.effect("give equal results for random calls at random times", () =>
    Effect.forEach(count(16), (seed) =>
      Effect.scoped(Effect.gen(function*() {
        const random = randomOf(seed)
        const ours = yield* limits
        const theirs = yield* reference
        for (const step of count(60)) {
          const call = callOf(random)
          assert.deepStrictEqual(
            yield* call(ours),
            yield* call(theirs),
            `seed ${seed}, step ${step}`
          )
          if (random() < 0.4) yield* TestClock.adjust(Math.floor(random() * 12) * 500)
          if (random() < 0.02) yield* TestClock.adjust("62 minutes")
        }
      })), { discard: true }))
})

/**
 * Clients that consume at the same time, round after round, and what each round permits; beside it what one process with the
 * same number of calls would be permitted.
 */
const rounds = (algorithm: Algorithm, options: Options) =>
  Effect.gen(function*() {
    const { clock, move } = yield* SetClock.make(1_000_000_000_000)
    return yield* Effect.gen(function*() {
      const random = randomOf(options.seed)
      const store = yield* MemoryStore.make()
      const limiters = yield* Effect.forEach(count(2 + Math.floor(random() * 5)), (i) =>
        Effect.flatMap(connect(store), (kv) =>
          limiterOn(contended(kv, { ...options, seed: options.seed * 100 + i }))))
      const alone = yield* Effect.provideService(RateLimiter.make, RateLimiter.RateLimiterStore, yield* reference)
      const consume = (limiter: RateLimiter.RateLimiter) =>
        Effect.exit(limiter.consume({ key: "api", limit: 10, window: "10 seconds", algorithm }))
      const seen: Array<{ readonly fleet: number; readonly alone: number; readonly elapsedSeconds: number }> = []
      let elapsedSeconds = 0
      for (const _ of count(6)) {
        const calls = limiters.flatMap((limiter) =>
          count(Math.floor(random() * 6)).map(() => limiter)
        )
        const exits = yield* Effect.forEach(calls, consume, { concurrency: "unbounded" })
        const expected = yield* Effect.forEach(calls, () => consume(alone))
        seen.push({ fleet: yield* permitted(exits), alone: yield* permitted(expected), elapsedSeconds })
        const step = Math.floor(random() * 8)
        yield* move(step * 1000)
        elapsedSeconds += step
      }
      return seen
    }).pipe(Effect.provideService(Clock.Clock, clock))
  }).pipe(Effect.scoped)

describe("clients that contend for a limit", () => {
  for (const algorithm of algorithms) {
    it.live(`${algorithm}: are permitted exactly as much as one process alone`, () =>
      Effect.forEach(count(12), (seed) =>
        Effect.map(rounds(algorithm, { seed }), (seen) => {
          for (const { alone, fleet } of seen) assert.strictEqual(fleet, alone, `seed ${seed}`)
        }), { discard: true }))

    it.live(`${algorithm}: are never permitted more than the limit when requests and responses are lost`, () =>
      Effect.forEach(count(12), (seed) =>
        Effect.map(rounds(algorithm, { seed, lossRate: 0.2 }), (seen) => {
          let permitted = 0
          for (const { alone, elapsedSeconds, fleet } of seen) {
            permitted += fleet
            assert.isAtMost(fleet, 10, `seed ${seed}`)
            // A token returns each second.
            assert.isAtMost(permitted, 10 + elapsedSeconds, `seed ${seed}`)
            if (elapsedSeconds === 0) assert.isAtMost(fleet, alone, `seed ${seed}`)
          }
        }), { discard: true }))

    it.live(`${algorithm}: are permitted more on a store that ignores conditions, and the comparison finds it`, () =>
      Effect.gen(function*() {
        const all = yield* Effect.forEach(count(12), (seed) => rounds(algorithm, { seed, ignoresConditions: true }))
        assert.isTrue(all.some((seen) => seen.some(({ alone, fleet }) => fleet > alone)))
      }))
  }

  it.live("all succeed, also in a loop", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const all = yield* Effect.forEach(count(5), (seed) =>
        Effect.flatMap(connect(store), (kv) => storeOn(contended(kv, { seed }))))
      const take = (store: Store) =>
        store.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.hours(1), limit: undefined })
      const results = yield* Effect.forEach(
        all,
        (store) =>
          Effect.forEach(count(20), () => take(store)),
        { concurrency: "unbounded" }
      )
      const counts = results.flat().map(([count]) => count).sort((a, b) => a - b)
      assert.deepStrictEqual(counts, count(100).map((i) => i + 1))
    }).pipe(Effect.scoped))
})

const faulty = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
  return { store, faults, limits: yield* storeOn(faults.kv), other: yield* Effect.flatMap(connect(store), storeOn) }
})

const key = "rate-limiter/window/a"

const take = (store: Store, limit?: number) =>
  store.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.seconds(10), limit })

const settled = Effect.forEach(count(300), () => Effect.yieldNow, { discard: true })

describe("a rate limiter with faults", () => {
  it.effect("counts a call once if its response or its request was lost", () =>
    Effect.gen(function*() {
      const { faults, limits } = yield* faulty
      yield* faults.inject(KvFaults.loseResponse, { when: KvFaults.writes(key) })
      assert.strictEqual((yield* take(limits))[0], 1)
      yield* faults.inject(KvFaults.loseRequest, { when: KvFaults.writes(key) })
      assert.strictEqual((yield* take(limits))[0], 2)
    }).pipe(Effect.scoped))

  it.effect("counts a call twice rather than not at all if another client wrote before the loss was noticed", () =>
    Effect.gen(function*() {
      const { faults, limits, other } = yield* faulty
      yield* faults.inject(KvFaults.loseResponse, { when: KvFaults.writes(key) })
      const again = yield* faults.hold("request", { when: ({ op }) => op?._tag === "Range", nth: 2 })
      const taking = yield* Effect.forkChild(take(limits))
      yield* again.reached
      assert.strictEqual((yield* take(other))[0], 2)
      yield* again.letGo
      assert.strictEqual((yield* Fiber.join(taking))[0], 3)
    }).pipe(Effect.scoped))

  it.effect("fails with the store's reason if the store cannot be reached, and works again afterwards", () =>
    Effect.gen(function*() {
      const { faults, limits } = yield* faulty
      yield* faults.partition({ requests: "refused" })
      const failing = yield* Effect.forkChild(Effect.flip(take(limits)))
      yield* settled
      yield* TestClock.adjust("5 seconds")
      const { reason } = yield* Fiber.join(failing)
      const cause = reason._tag === "RateLimitStoreError" ? reason.cause : undefined
      assert.isTrue(KvError.isKvError(cause) && cause.outcome === "NotApplied")
      yield* faults.heal
      assert.strictEqual((yield* take(limits))[0], 1)
    }).pipe(Effect.scoped))

  it.effect("a caller that is interrupted in the queue takes no token, and delays no other caller", () =>
    Effect.gen(function*() {
      const { faults, limits } = yield* faulty
      const held = yield* faults.hold("request", { when: KvFaults.writes(key) })
      const first = yield* Effect.forkChild(take(limits))
      yield* held.reached
      const second = yield* Effect.forkChild(take(limits))
      const third = yield* Effect.forkChild(take(limits))
      yield* settled
      yield* Fiber.interrupt(second)
      yield* held.letGo
      assert.deepStrictEqual([(yield* Fiber.join(first))[0], (yield* Fiber.join(third))[0]], [1, 2])
    }).pipe(Effect.scoped))

  it.effect("a caller waits no longer than its deadline, and the error says whether tokens may have been taken", () =>
    Effect.gen(function*() {
      const { faults, limits } = yield* faulty
      const held = yield* faults.hold("request", { when: KvFaults.writes(key) })
      const first = yield* Effect.forkChild(Effect.flip(Deadline.within(take(limits), "1 second")))
      yield* held.reached
      const second = yield* Effect.forkChild(Effect.flip(Deadline.within(take(limits), "1 second")))
      yield* settled
      yield* TestClock.adjust("1 second")
      const outcomes = [yield* Fiber.join(first), yield* Fiber.join(second)].map(({ reason }) => {
        const cause = reason._tag === "RateLimitStoreError" ? reason.cause : undefined
        return KvError.isKvError(cause) ? cause.outcome : undefined
      })
      assert.deepStrictEqual(outcomes, ["Unknown", "NotApplied"])
      yield* held.letGo
      yield* settled
      assert.strictEqual((yield* take(limits))[0], 2)
    }).pipe(Effect.scoped))

  it.effect("a rejection that the client can decide by itself costs no request", () =>
    Effect.gen(function*() {
      const { faults, limits } = yield* faulty
      for (const _ of count(3)) yield* take(limits, 3)
      yield* faults.partition({ requests: "refused" })
      const exits = yield* Effect.forEach(count(50), () => take(limits, 3))
      assert.deepStrictEqual(new Set(exits.map(([count]) => count)), new Set([4]))
      yield* faults.heal
      // What was known long ago is read again.
      yield* TestClock.adjust("2 seconds")
      yield* faults.kv.delete(key)
      assert.strictEqual((yield* take(limits, 3))[0], 1)
    }).pipe(Effect.scoped))

  it.effect("idle states expire from the store", () =>
    Effect.gen(function*() {
      const { faults, limits, store } = yield* faulty
      yield* take(limits)
      yield* limits.tokenBucket({
        key: "b",
        tokens: 2,
        limit: 4,
        refillRate: Duration.seconds(1),
        allowOverflow: false
      })
      yield* limits.adaptiveFeedback({ key: "c", epoch: 0, tokens: 1, status: 429, retryAfter: Duration.seconds(1) })
      assert.strictEqual(yield* faults.kv.count(KeyRange.all), 3)
      yield* TestClock.adjust("2 minutes")
      const { keys, leases } = yield* store.statistics
      assert.deepStrictEqual({ keys, leases }, { keys: 0, leases: 0 })
    }).pipe(Effect.scoped))
})

describe("the traces of a rate limiter", () => {
  it.effect("a batch has a span of its own, linked to those of its callers, and none without a traced caller", () =>
    Effect.gen(function*() {
      const { limits } = yield* faulty
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const call = Effect.withSpan(take(limits), "call")
      yield* Effect.all([call, call], { concurrency: "unbounded" }).pipe(Effect.provideService(Tracer.Tracer, tracer))
      yield* settled
      const batches = spans.filter(({ name }) => name === "BATCH rate limit")
      const calls = spans.filter(({ name }) => name === "call")
      assert.deepStrictEqual([batches.length, calls.length], [1, 2])
      const [batch] = batches
      assert.deepStrictEqual(batch!.links.map(({ span }) => span.spanId), calls.map(({ spanId }) => spanId))
      for (const call of calls) assert.deepStrictEqual(call.links.map(({ span }) => span.spanId), [batch!.spanId])
      assert.isTrue(Option.isNone(batch!.parent))
      assert.strictEqual(batch!.attributes.get("batch.size"), 2)
      const before = spans.length
      yield* take(limits).pipe(Effect.provideService(Tracer.Tracer, tracer))
      assert.strictEqual(spans.length, before)
    }).pipe(Effect.scoped))
})

describe("HttpClient.withRateLimiter", () => {
  it.effect("limits the requests of all replicas together, and delays the excess", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      let requests = 0
      const server = HttpClient.make((request) =>
        Effect.sync(() => {
          requests++
          return HttpClientResponse.fromWeb(request, new Response("ok"))
        })
      )
      const replicas = yield* Effect.forEach(count(2), () =>
        Effect.map(Effect.flatMap(connect(store), limiterOn), (limiter) =>
          HttpClient.withRateLimiter(server, { limiter, key: "api", limit: 3, window: "1 minute" })))
      const all = yield* Effect.forEach(
        [...replicas, ...replicas, ...replicas],
        (replica) =>
          replica.get("http://api.example"),
        { concurrency: "unbounded" }
      ).pipe(Effect.forkChild)
      yield* settled
      assert.strictEqual(requests, 3)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(all)
      assert.strictEqual(requests, 6)
    }).pipe(Effect.scoped))
})

describe("clients whose clocks differ", () => {
  it.live("one that is behind gets no more than the limit, and is warned", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const [one, other] = yield* Effect.forEach([1, 2], () => Effect.flatMap(connect(store), limiterOn))
      const warnings: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => {
        warnings.push(`${message}`)
      })
      const { clock, move } = yield* SetClock.make(1_000_000_000_000)
      for (const algorithm of algorithms) {
        const consume = (limiter: RateLimiter.RateLimiter | undefined) =>
          Effect.exit(limiter!.consume({ key: "a", limit: 4, window: "1 minute", algorithm }))
        const exits = yield* Effect.gen(function*() {
          const ahead = yield* Effect.forEach(count(4), () => consume(one))
          yield* move(-50_000)
          const behind = yield* Effect.forEach(count(4), () => consume(other))
          yield* move(50_000)
          return [...ahead, ...behind, ...yield* Effect.forEach(count(4), () => consume(one))]
        }).pipe(
          Effect.provideService(Clock.Clock, clock),
          Effect.provide(Logger.layer([logger]))
        )
        assert.deepStrictEqual(exits.map(Exit.isSuccess), count(12).map((i) => i < 4))
      }
      assert.strictEqual(warnings.length, 1)
      assert.match(warnings[0]!, /50s in the future of this clock/)
    }).pipe(Effect.scoped))

  it.live("feedback of one that is behind neither shortens a cooldown nor a learned window", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const limits = yield* Effect.flatMap(connect(store), storeOn)
      const { clock, move } = yield* SetClock.make(1_000_000_000_000)
      const consume = Effect.map(
        limits.adaptiveConsume({ key: "a", tokens: 1, fallbackLimit: 5, fallbackWindow: Duration.minutes(1) }),
        ({ delay, phase }) => [phase, Duration.toMillis(delay)]
      )
      const reject = (epoch: number) =>
        limits.adaptiveFeedback({ key: "a", epoch, tokens: 1, status: 429, retryAfter: Duration.seconds(6) })
      yield* Effect.gen(function*() {
        yield* reject(0)
        yield* move(-4000)
        yield* reject(0)
        yield* move(4000)
        assert.deepStrictEqual(yield* consume, ["cooldown", 6000])
        yield* move(6000)
        for (const _ of count(3)) assert.deepStrictEqual(yield* consume, ["learning", 0])
        yield* move(-4000)
        yield* reject(1)
        yield* move(4000)
        assert.deepStrictEqual(yield* consume, ["learned", 6000])
      }).pipe(Effect.provideService(Clock.Clock, clock))
    }).pipe(Effect.scoped))
})
