/**
 * Circuit breakers on memory, under the test clock: what Effect's breaker demands of a store, with several processes that
 * share it, faults included.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as KvCircuitBreaker from "../src/KvCircuitBreaker.ts"
import { advance, settled } from "./support/processes.ts"

/** Processes that share a store, each with a count of its requests. */
const fleet = Effect.gen(function*() {
  const memory = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(memory.connect, Kv.make)
  const start = Effect.fnUntraced(function*(options?: KvCircuitBreaker.Options) {
    const backend = yield* memory.connect
    const counts = { requests: 0, writes: 0 }
    const counting: KvBackend = {
      ...backend,
      execute: (op) =>
        Effect.suspend(() => {
          counts.requests++
          if (KvFaults.isWrite({ kind: "execute", op })) counts.writes++
          return backend.execute(op)
        })
    }
    const faults = yield* KvFaults.make(counting)
    const store = yield* Effect.provideService(KvCircuitBreaker.makeStore(options), Kv.Kv, faults.kv)
    yield* settled
    const breaker = (policy?: Partial<Parameters<typeof CircuitBreaker.make>[0]>) =>
      Effect.provideService(
        CircuitBreaker.make({ tripPolicy: CircuitBreaker.consecutive(2), openDuration: "30 seconds", ...policy }),
        CircuitBreaker.CircuitBreakerStore,
        store
      )
    return { faults, store, counts, breaker }
  })
  return { kv, memory, start }
})

/** Runs an effect on a clock that is ahead of the test clock. */
const ahead = (time: Duration.Input) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Clock.Clock, (clock) =>
    Effect.provideService(effect, Clock.Clock, {
      ...clock,
      currentTimeMillisUnsafe: () =>
        clock.currentTimeMillisUnsafe() + Duration.toMillis(Duration.fromInputUnsafe(time)),
      currentTimeMillis: Effect.map(
        clock.currentTimeMillis,
        (now) => now + Duration.toMillis(Duration.fromInputUnsafe(time))
      )
    }))

const fails = Effect.fail("unavailable")

/** How a call through the breaker ends: the tag of its rejection, or of its own failure. */
const outcome = <A, E>(call: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(call), (exit) => {
    if (Exit.isSuccess(exit)) return "ran"
    const error = exit.cause.reasons[0]?._tag === "Fail" ? exit.cause.reasons[0].error : undefined
    return error instanceof CircuitBreaker.CircuitBreakerError ? error.reason._tag : "ran"
  })

/** A call that lasts until it is told how to end. */
const inFlight = Effect.fnUntraced(function*(breaker: CircuitBreaker.CircuitBreaker, key: string) {
  const started = yield* Deferred.make<void>()
  const end = yield* Deferred.make<void, string>()
  const fiber = yield* Effect.forkScoped(
    breaker.execute(Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(end)), { key })
  )
  yield* Deferred.await(started)
  return { end, fiber }
})

describe("circuits", () => {
  it.effect("opens after so many failures in a row, in all processes, and admits one probe after its time", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [here, there] = [yield* (yield* start()).breaker(), yield* (yield* start()).breaker()]
      const transitions: Array<CircuitBreaker.Transition> = []
      yield* Effect.forkScoped(Stream.runForEach(here.transitions, (one) => Effect.sync(() => transitions.push(one))))
      yield* settled
      yield* outcome(here.execute(fails, { key: "a" }))
      yield* settled
      yield* outcome(there.execute(fails, { key: "a" }))
      assert.strictEqual(yield* outcome(there.execute(Effect.void, { key: "a" })), "CircuitOpen")
      yield* settled
      const error = yield* Effect.flip(here.execute(Effect.void, { key: "a" }))
      assert.deepStrictEqual(
        error.reason,
        new CircuitBreaker.CircuitOpen({ key: "a", retryAfter: Duration.seconds(30) })
      )
      yield* advance("29999 millis")
      assert.deepInclude(yield* here.state("a"), {
        _tag: "Open",
        retryAfter: Duration.millis(1),
        consecutiveOpenings: 1
      })
      yield* advance("1 millis")
      const probe = yield* inFlight(here, "a")
      yield* settled
      assert.deepStrictEqual(yield* there.state("a"), {
        _tag: "HalfOpen",
        key: "a",
        probing: true,
        consecutiveOpenings: 1
      })
      assert.strictEqual(yield* outcome(there.execute(Effect.void, { key: "a" })), "CircuitHalfOpen")
      assert.strictEqual(yield* outcome(here.execute(Effect.void, { key: "a" })), "CircuitHalfOpen")
      yield* Deferred.succeed(probe.end, undefined)
      yield* Fiber.join(probe.fiber)
      yield* settled
      assert.strictEqual(yield* outcome(there.execute(Effect.void, { key: "a" })), "ran")
      yield* settled
      assert.deepStrictEqual(transitions.map(({ from, to }) => `${from} ${to}`), ["Open HalfOpen", "HalfOpen Closed"])
    }))

  it.effect("a success between failures starts the streak again; ignored outcomes leave it", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const breaker = yield* (yield* start()).breaker()
      const ignored = breaker.execute(fails, { key: "a", classify: () => CircuitBreaker.ignored })
      yield* outcome(breaker.execute(fails, { key: "a" }))
      yield* outcome(breaker.execute(Effect.void, { key: "a" }))
      yield* outcome(breaker.execute(fails, { key: "a" }))
      yield* outcome(ignored)
      assert.deepStrictEqual(yield* breaker.state("a"), { _tag: "Closed", key: "a" })
      yield* outcome(breaker.execute(fails, { key: "a" }))
      assert.strictEqual((yield* breaker.state("a"))._tag, "Open")
    }))

  it.effect("a failed probe opens the circuit for the schedule's next time; the count survives a close until its time", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const breaker = yield* (yield* start()).breaker({
        tripPolicy: CircuitBreaker.consecutive(1),
        openDuration: Schedule.exponential("1 second")
      })
      const openings = Effect.map(breaker.state("a"), (state) => state._tag === "Open" ? state.consecutiveOpenings : 0)
      yield* outcome(breaker.execute(fails, { key: "a" }))
      yield* advance("1 second")
      yield* outcome(breaker.execute(fails, { key: "a" }))
      assert.deepInclude(yield* breaker.state("a"), { retryAfter: Duration.seconds(2), consecutiveOpenings: 2 })
      yield* advance("2 seconds")
      yield* outcome(breaker.execute(Effect.void, { key: "a" }))
      yield* advance("1 second")
      yield* outcome(breaker.execute(fails, { key: "a" }))
      assert.strictEqual(yield* openings, 3)
      yield* advance("4 seconds")
      yield* outcome(breaker.execute(Effect.void, { key: "a" }))
      yield* advance("4 seconds")
      yield* outcome(breaker.execute(fails, { key: "a" }))
      assert.strictEqual(yield* openings, 1)
    }))

  it.effect("an interrupted or ignored probe frees its place, and the next call is the probe", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [here, there] = [yield* (yield* start()).breaker(), yield* (yield* start()).breaker()]
      for (let i = 0; i < 2; i++) yield* outcome(here.execute(fails, { key: "a" }))
      yield* advance("30 seconds")
      const probe = yield* inFlight(here, "a")
      yield* Fiber.interrupt(probe.fiber)
      assert.deepInclude(yield* here.state("a"), { _tag: "HalfOpen", probing: false })
      yield* settled
      yield* outcome(there.execute(fails, { key: "a", classify: () => CircuitBreaker.ignored }))
      assert.deepInclude(yield* here.state("a"), { _tag: "HalfOpen", probing: false })
      yield* settled
      yield* here.execute(Effect.void, { key: "a" })
      assert.strictEqual((yield* here.state("a"))._tag, "Closed")
    }))

  it.effect("outcomes of calls from before a transition change nothing", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [here, there] = [yield* (yield* start()).breaker(), yield* (yield* start()).breaker()]
      const early = [yield* inFlight(here, "a"), yield* inFlight(there, "a"), yield* inFlight(here, "a")]
      for (let i = 0; i < 2; i++) yield* outcome(here.execute(fails, { key: "a" }))
      yield* Deferred.fail(early[0]!.end, "unavailable")
      yield* Fiber.await(early[0]!.fiber)
      assert.deepInclude(yield* here.state("a"), { _tag: "Open", consecutiveOpenings: 1 })
      yield* advance("30 seconds")
      const probe = yield* inFlight(here, "a")
      yield* Deferred.succeed(early[1]!.end, undefined)
      yield* Fiber.await(early[1]!.fiber)
      assert.deepInclude(yield* here.state("a"), { _tag: "HalfOpen", probing: true })
      yield* Deferred.succeed(probe.end, undefined)
      yield* Fiber.join(probe.fiber)
      yield* Deferred.fail(early[2]!.end, "unavailable")
      yield* Fiber.await(early[2]!.fiber)
      yield* outcome(here.execute(fails, { key: "a" }))
      assert.strictEqual((yield* here.state("a"))._tag, "Closed", "the first failure of a streak of two")
    }))

  it.effect("a rate policy opens at its share of failures among the last calls, over all processes", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const tripPolicy = CircuitBreaker.rate({ threshold: 0.5, size: 6, minimumCalls: 4 })
      const breakers = [
        yield* (yield* start()).breaker({ tripPolicy }),
        yield* (yield* start()).breaker({ tripPolicy })
      ]
      const call = Effect.fnUntraced(function*(i: number, result: Effect.Effect<void, string>) {
        yield* outcome(breakers[i % 2]!.execute(result, { key: "a" }))
        yield* settled
      })
      for (let i = 0; i < 6; i++) yield* call(i, Effect.void)
      for (let i = 0; i < 2; i++) yield* call(i, fails)
      assert.strictEqual((yield* breakers[0]!.state("a"))._tag, "Closed")
      yield* call(0, fails)
      assert.strictEqual((yield* breakers[0]!.state("a"))._tag, "Open")
    }))

  it.effect("keys are apart from each other, whatever text they are", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const breaker = yield* (yield* start()).breaker({ tripPolicy: CircuitBreaker.consecutive(1) })
      const keys = ["", "a", "a/", "a/b", "ab", "a%2Fb", "\ud800"]
      for (const [i, key] of keys.entries()) {
        for (const other of keys.slice(i)) assert.strictEqual((yield* breaker.state(other))._tag, "Closed", other)
        yield* outcome(breaker.execute(fails, { key }))
        assert.strictEqual((yield* breaker.state(key))._tag, "Open", key)
      }
    }))

  it.effect("a circuit is forgotten when it was idle for its time, but an open one not before it was open for its own", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const breaker = yield* (yield* start({ idleTimeToLive: "1 minute" })).breaker({ openDuration: "10 minutes" })
      yield* outcome(breaker.execute(fails, { key: "streak" }))
      for (let i = 0; i < 2; i++) yield* outcome(breaker.execute(fails, { key: "open" }))
      yield* advance("2 minutes")
      yield* outcome(breaker.execute(fails, { key: "streak" }))
      assert.strictEqual((yield* breaker.state("streak"))._tag, "Closed")
      yield* advance("8 minutes")
      assert.deepInclude(yield* breaker.state("open"), { _tag: "Open", retryAfter: Duration.zero })
      yield* advance("6 minutes")
      assert.strictEqual((yield* breaker.state("open"))._tag, "Closed")
      assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    }))
})

describe("cost", () => {
  it.effect("calls through a closed circuit make no request; a streak is written when it changes", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const { breaker: of, counts } = yield* start()
      const breaker = yield* of({ tripPolicy: CircuitBreaker.consecutive(5) })
      counts.requests = 0
      for (let i = 0; i < 20; i++) yield* breaker.execute(Effect.void, { key: "a" })
      assert.strictEqual(counts.requests, 0)
      yield* outcome(breaker.execute(fails, { key: "a" }))
      for (let i = 0; i < 20; i++) yield* breaker.execute(Effect.void, { key: "a" })
      assert.strictEqual(counts.writes, 2)
      assert.strictEqual(yield* kv.count(KeyRange.all), 0, "a circuit without a past has no key")
    }))

  it.effect("an open circuit rejects calls without a request, also in a process that did not open it", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [here, there] = [yield* start(), yield* start()]
      const breaker = yield* here.breaker({ tripPolicy: CircuitBreaker.consecutive(1) })
      yield* outcome(breaker.execute(fails, { key: "a" }))
      yield* settled
      there.counts.requests = 0
      const other = yield* there.breaker()
      for (let i = 0; i < 20; i++) {
        assert.strictEqual(yield* outcome(other.execute(Effect.void, { key: "a" })), "CircuitOpen")
      }
      assert.strictEqual(there.counts.requests, 0)
    }))

  it.effect("outcomes that wait for the store are written together", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { breaker: of, counts, faults, store } = yield* start()
      const breaker = yield* of({ tripPolicy: CircuitBreaker.rate({ size: 100, threshold: 0.9 }) })
      const calls = yield* Effect.forEach(Array.from({ length: 50 }), () => inFlight(breaker, "a"))
      counts.writes = 0
      const hold = yield* faults.hold("response", { when: KvFaults.writes("circuit-breaker/circuit/a") })
      for (const [i, { end }] of calls.entries()) {
        yield* i % 2
          ? Deferred.succeed(end, undefined)
          : Deferred.fail(end, "x")
      }
      yield* settled
      yield* hold.letGo
      for (const { fiber } of calls) yield* Fiber.await(fiber)
      assert.strictEqual(counts.writes, 2)
      assert.strictEqual((yield* store.state("a"))._tag, "Closed")
    }))
})

describe("faults", () => {
  it.effect("a probe whose process dies frees its place within the lease, and its late outcome changes nothing", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [dying, other] = [yield* start(), yield* start()]
      const [here, there] = [yield* dying.breaker(), yield* other.breaker()]
      for (let i = 0; i < 2; i++) yield* outcome(there.execute(fails, { key: "a" }))
      yield* advance("30 seconds")
      const probe = yield* inFlight(here, "a")
      yield* dying.faults.partition({ requests: "late" })
      yield* advance("5 seconds")
      assert.strictEqual(yield* outcome(there.execute(Effect.void, { key: "a" })), "CircuitHalfOpen")
      yield* advance("6 seconds")
      const second = yield* inFlight(there, "a")
      yield* dying.faults.heal
      yield* Deferred.fail(probe.end, "unavailable")
      yield* Fiber.await(probe.fiber)
      assert.deepInclude(yield* there.state("a"), { _tag: "HalfOpen", probing: true })
      yield* Deferred.succeed(second.end, undefined)
      yield* Fiber.join(second.fiber)
      assert.strictEqual((yield* there.state("a"))._tag, "Closed")
    }))

  it.effect("a probe, an opening and a failure whose response is lost count once", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { breaker: of, faults } = yield* start()
      const breaker = yield* of({ tripPolicy: CircuitBreaker.consecutive(3) })
      const lose = (part: string) => faults.inject(KvFaults.loseResponse, { when: KvFaults.writes(part) })
      for (let i = 0; i < 3; i++) {
        yield* lose("circuit-breaker/circuit/a")
        yield* outcome(breaker.execute(fails, { key: "a" }))
        assert.strictEqual((yield* breaker.state("a"))._tag, i < 2 ? "Closed" : "Open", `failure ${i}`)
      }
      yield* advance("30 seconds")
      yield* lose("circuit-breaker/probe/a")
      const probe = yield* inFlight(breaker, "a")
      yield* lose("circuit-breaker/probe/a")
      yield* Deferred.succeed(probe.end, undefined)
      yield* Fiber.join(probe.fiber)
      assert.deepStrictEqual(yield* breaker.state("a"), { _tag: "Closed", key: "a" })
    }))

  it.effect("while the store is away a closed circuit admits calls at once, and other calls fail or run as the breaker says", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { breaker: of, faults } = yield* start()
      const allowing = yield* of({ tripPolicy: CircuitBreaker.consecutive(1) })
      const failing = yield* of({ tripPolicy: CircuitBreaker.consecutive(1), onStoreError: "fail" })
      yield* outcome(allowing.execute(fails, { key: "open" }))
      yield* faults.partition({ requests: "refused" })
      yield* allowing.execute(Effect.void, { key: "closed" })
      yield* failing.execute(Effect.void, { key: "closed" })
      assert.strictEqual(yield* outcome(failing.execute(Effect.void, { key: "open" })), "CircuitOpen")
      yield* advance("30 seconds")
      for (const [breaker, expected] of [[failing, "CircuitBreakerStoreError"], [allowing, "ran"]] as const) {
        const call = yield* Effect.forkScoped(outcome(breaker.execute(Effect.void, { key: "open" })))
        yield* advance("1 second")
        yield* advance("1 millis")
        assert.isDefined(call.pollUnsafe(), "a call waits for the store for one second")
        assert.strictEqual(yield* Fiber.join(call), expected)
      }
      yield* faults.heal
    }))

  it.effect("a clock that is behind never makes the probe later than the open time after it was seen", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { store } = yield* start()
      const scope = yield* Scope.make()
      const admission = yield* Scope.provide(store.admit("a"), scope)
      // The process that opened the circuit has a clock that is 1 hour ahead.
      yield* store.record({
        key: "a",
        generation: admission.generation,
        outcome: "Failure",
        tripPolicy: CircuitBreaker.consecutive(1),
        openFor: Duration.seconds(30)
      }).pipe(ahead("1 hour"))
      const state = yield* (yield* start()).store.state("a")
      assert.deepInclude(state, { _tag: "Open", retryAfter: Duration.seconds(30) })
    }))

  it.effect("a clock that is set back does not prolong the time that a circuit is open", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { breaker: of, store } = yield* start()
      const breaker = yield* of({ tripPolicy: CircuitBreaker.consecutive(1) })
      yield* outcome(breaker.execute(fails, { key: "a" }))
      yield* advance("10 seconds")
      assert.deepInclude(yield* ahead("-1 hour")(store.state("a")), { retryAfter: Duration.seconds(20) })
      yield* advance("20 seconds")
      assert.strictEqual(yield* outcome(ahead("-1 hour")(breaker.execute(Effect.void, { key: "a" }))), "ran")
    }))

  it.effect("a store that closes during a call ends the waits for it, and frees the place of a probe", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const scope = yield* Scope.make()
      const closing = yield* Scope.provide(Effect.provideService(KvCircuitBreaker.makeStore(), Kv.Kv, kv), scope)
      const policy = { tripPolicy: CircuitBreaker.consecutive(1), openDuration: "30 seconds" } as const
      const breaker = yield* Effect.provideService(
        CircuitBreaker.make(policy),
        CircuitBreaker.CircuitBreakerStore,
        closing
      )
      const other = yield* (yield* start()).breaker(policy)
      yield* settled
      yield* outcome(other.execute(fails, { key: "a" }))
      const call = yield* inFlight(breaker, "b")
      yield* advance("30 seconds")
      const probe = yield* inFlight(breaker, "a")
      yield* Scope.close(scope, Exit.void)
      yield* settled
      assert.deepInclude(yield* other.state("a"), { _tag: "HalfOpen", probing: false })
      yield* Deferred.succeed(probe.end, undefined)
      yield* Deferred.fail(call.end, "unavailable")
      yield* settled
      assert.deepStrictEqual(probe.fiber.pollUnsafe(), Exit.void)
      assert.deepStrictEqual(call.fiber.pollUnsafe(), Exit.fail("unavailable"))
      assert.deepStrictEqual(yield* other.state("b"), { _tag: "Closed", key: "b" })
    }))

  it.effect("outcomes that wait when the store closes are not recorded, and do not change how their calls end", () =>
    Effect.gen(function*() {
      const { memory } = yield* fleet
      const faults = yield* Effect.flatMap(memory.connect, KvFaults.make)
      const scope = yield* Scope.make()
      const store = yield* Scope.provide(Effect.provideService(KvCircuitBreaker.makeStore(), Kv.Kv, faults.kv), scope)
      const breaker = yield* Effect.provideService(
        CircuitBreaker.make({ tripPolicy: CircuitBreaker.consecutive(5), openDuration: "30 seconds" }),
        CircuitBreaker.CircuitBreakerStore,
        store
      )
      yield* settled
      const held = yield* faults.hold("request", { when: KvFaults.writes("circuit-breaker/circuit/a") })
      const first = yield* Effect.forkScoped(breaker.execute(fails, { key: "a" }))
      yield* held.reached
      const second = yield* Effect.forkScoped(breaker.execute(fails, { key: "a" }))
      yield* settled
      yield* Scope.close(scope, Exit.void)
      yield* settled
      assert.deepStrictEqual(first.pollUnsafe(), Exit.fail("unavailable"))
      assert.deepStrictEqual(second.pollUnsafe(), Exit.fail("unavailable"))
      yield* faults.calm
    }))

  it.effect("wrong options are rejected when the store is made", () =>
    Effect.gen(function*() {
      const { kv } = yield* fleet
      for (const options of [{ prefix: "" }, { probeLease: 0 }, { idleTimeToLive: Duration.infinity }]) {
        const error = yield* KvCircuitBreaker.makeStore(options).pipe(Effect.provideService(Kv.Kv, kv), Effect.flip)
        assert.strictEqual(error.reason._tag, "InvalidRequest")
      }
    }))
})
