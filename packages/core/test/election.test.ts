/**
 * Singletons in outages: what they log, and that all of them contend again. Observers that begin in an outage, or whose
 * reads are interrupted.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

/** A client without a connection to its store while `link.isCut`. */
const cuttable = Effect.fnUntraced(function*(store: MemoryStore.MemoryStore, link: { isCut: boolean }) {
  const backend = yield* store.connect
  const unlessCut = <A>(effect: Effect.Effect<A, KvError.KvError>) =>
    Effect.suspend(() => link.isCut ? KvError.fail(new KvError.Unavailable({ message: "says the test" })) : effect)
  return yield* Kv.make({
    ...backend,
    execute: (op) => unlessCut(backend.execute(op)),
    leaseGrant: (options) => unlessCut(backend.leaseGrant(options)),
    leaseKeepAlive: (id) => unlessCut(backend.leaseKeepAlive(id))
  })
})

describe("a singleton", () => {
  it.effect("logs an outage as one warning, and each failed run as one", () =>
    Effect.gen(function*() {
      const link = { isCut: false }
      const kv = yield* cuttable(yield* MemoryStore.make(), link)
      const warnings: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === "Warn") warnings.push(String(Array.isArray(message) ? message[0] : message))
      })
      let runs = 0
      const work = () =>
        Effect.andThen(Effect.sync(() => ++runs), Effect.andThen(Effect.sleep("1 hour"), Effect.fail("own")))
      yield* Election.singleton("e", work).pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.provide(Logger.layer([logger])),
        Effect.forkScoped
      )
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(runs, 1)
      for (let outage = 1; outage <= 2; outage++) {
        link.isCut = true
        yield* TestClock.adjust("1 minute")
        link.isCut = false
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(runs, 1 + outage)
        assert.strictEqual(warnings.filter((message) => message.includes("a campaign failed")).length, outage)
      }
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(warnings.filter((message) => message.includes("a singleton's run failed")).length, 1)
    }))

  it.effect("in each of three processes contends again after each of 20 outages that are longer than its lease", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const link = { isCut: false }
      const running = new Map<string, bigint>()
      for (const id of ["a", "b", "c"]) {
        yield* Election.singleton(
          "e",
          ({ token }) =>
            Effect.acquireUseRelease(
              Effect.sync(() => running.set(id, token)),
              () => Effect.never,
              () => Effect.sync(() => running.delete(id))
            ),
          { value: id, ttl: "2 seconds" }
        ).pipe(Effect.provideService(Kv.Kv, yield* cuttable(store, link)), Effect.forkScoped)
      }
      const observer = yield* Effect.flatMap(store.connect, Kv.make)
      const candidates = Effect.provideService(Election.candidates("e"), Kv.Kv, observer)
      let last = 0n
      for (let outage = 0; outage <= 20; outage++) {
        yield* TestClock.adjust("10 seconds")
        const all = yield* candidates
        assert.strictEqual(all.length, 3, `after outage ${outage}`)
        assert.deepStrictEqual([...running], [[all[0]!.value, all[0]!.token]], `after outage ${outage}`)
        assert.isTrue(all[0]!.token > last)
        last = all[0]!.token
        link.isCut = true
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(running.size, 0, "no run outlives its lease")
        assert.strictEqual((yield* candidates).length, 0)
        link.isCut = false
      }
    }))
})

describe("an observer", () => {
  const next = (pull: Effect.Effect<ReadonlyArray<Option.Option<Election.Candidate>>, unknown>) =>
    Effect.map(pull, (leaders) => leaders.map(Option.map(({ value }) => value)))

  it.effect("that begins while the store cannot be reached sees the leader once it can be", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const link = { isCut: true }
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      yield* Effect.provideService(Election.campaign("e", { value: "a" }), Kv.Kv, kv)
      const pull = yield* Stream.toPull(
        Stream.provideService(Election.observe("e"), Kv.Kv, yield* cuttable(store, link))
      )
      const seen = yield* Effect.forkChild(next(pull))
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(seen.pollUnsafe())
      link.isCut = false
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(seen), [Option.some("a")])
    }))

  it.effect("whose read is interrupted while it reads the candidates again, after a compaction, continues with the next", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const link = { isCut: false }
      const backend = backendOf(yield* cuttable(store, link))
      let isCompacted = false
      const compacted = KvError.make(new KvError.Compacted({ compactRevision: Option.none() }))
      const observer = yield* Kv.make({
        ...backend,
        watch: (request) => {
          if (isCompacted) return backend.watch(request)
          let isClosed = false
          return Effect.map(
            Effect.andThen(Effect.addFinalizer(() => Effect.sync(() => isClosed = true)), backend.watch(request)),
            (watcher) => ({
              ...watcher,
              take: Effect.suspend(() => isCompacted && !isClosed ? Effect.fail(compacted) : watcher.take)
            })
          )
        }
      })
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      const lead = (value: string) => Effect.provideService(Election.campaign("e", { value }), Kv.Kv, kv)
      const pull = yield* Stream.toPull(Stream.provideService(Election.observe("e"), Kv.Kv, observer))
      assert.deepStrictEqual(yield* next(pull), [Option.none()])
      isCompacted = true
      link.isCut = true
      const first = yield* lead("a")
      const interrupted = yield* Effect.forkChild(next(pull))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(interrupted)
      link.isCut = false
      const seen = yield* Effect.forkChild(next(pull))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(seen), [Option.some("a")])
      yield* first.resign
      assert.deepStrictEqual(yield* next(pull), [Option.none()])
      yield* lead("b")
      assert.deepStrictEqual(yield* next(pull), [Option.some("b")])
    }))
})
