/**
 * Calls on the link of `KvFaults`: what becomes of what has left when callers go, the client is cut off, or it is closed.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf, watcherOf } from "@effect-kv/core/KvInternals"
import * as SendControl from "@effect-kv/core/SendControl"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { clients, isDone, reasonOf, settle } from "./faultyClients.ts"

it.effect("a renewal that has left arrives though its caller is interrupted", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "10 seconds" })
    yield* TestClock.adjust("5 seconds")
    const hold = yield* faults.hold("request", { when: (call) => call.kind === "leaseKeepAlive" })
    const renewing = yield* Effect.forkChild(backendOf(kv).leaseKeepAlive(id))
    yield* hold.reached
    yield* Fiber.interrupt(renewing)
    yield* hold.letGo
    yield* settle
    const { remaining } = yield* backendOf(other).leaseTimeToLive(id)
    assert.strictEqual(Duration.toSeconds(remaining), 10)
  }))

it.effect("a renewal whose answer is lost is repeated", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "10 seconds" })
    yield* faults.inject(KvFaults.loseAnswer, { when: (call) => call.kind === "leaseKeepAlive" })
    assert.strictEqual((yield* backendOf(kv).leaseKeepAlive(id)).id, id)
    assert.lengthOf(yield* faults.injected, 1)
  }))

it.effect("an answer does not get through to a client that was cut off meanwhile, and a read is repeated after the heal", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    yield* faults.inject(KvFaults.delayAnswer("1 second"), { times: 2 })
    const putting = yield* Effect.forkChild(Effect.flip(kv.put("k", "1").pipe(Deadline.within("1 minute"))))
    const reading = yield* Effect.forkChild(kv.get("k").pipe(Deadline.within("1 minute")))
    yield* settle
    yield* faults.partition()
    yield* TestClock.adjust("30 seconds")
    assert.deepStrictEqual(yield* other.get("k"), Option.some("1"))
    assert.isFalse(isDone(putting) || isDone(reading))
    yield* other.put("k", "2")
    yield* faults.heal
    yield* settle
    assert.strictEqual((yield* Fiber.join(putting)).reason._tag, "Indeterminate")
    assert.deepStrictEqual(yield* Fiber.join(reading), Option.some("2"))
  }))

it.effect("an answer that is late on its way arrives after the heal where nothing is lost", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* faults.inject(KvFaults.delayAnswer("1 second"))
    const putting = yield* Effect.forkChild(kv.put("k", "1").pipe(Deadline.within("1 minute")))
    yield* settle
    yield* faults.partition({ requests: "late" })
    yield* TestClock.adjust("30 seconds")
    assert.isFalse(isDone(putting))
    yield* faults.heal
    yield* Fiber.join(putting)
  }))

it.effect("of a call that was given up before it left nothing is sent, and who made it can tell", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    yield* faults.partition({ requests: "refused" })
    let isGone = false
    const sendControl = new SendControl.SendControl(() => isGone)
    const putting = yield* Effect.forkChild(
      reasonOf(kv.put("k", "1").pipe(Effect.provideService(SendControl.Current, sendControl)))
    )
    yield* settle
    assert.isFalse(sendControl.mayHaveBeenSent)
    isGone = true
    yield* faults.heal
    yield* settle
    assert.strictEqual(yield* Fiber.join(putting), "Unavailable")
    assert.isTrue(sendControl.wasCancelled)
    assert.isFalse(sendControl.mayHaveBeenSent)
    assert.deepStrictEqual(yield* other.get("k"), Option.none())
  }))

it.effect("of a call that has left it is known that it may have", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const sendControl = new SendControl.SendControl(() => false)
    const hold = yield* faults.hold("request")
    yield* Effect.forkChild(kv.put("k", "1").pipe(Effect.provideService(SendControl.Current, sendControl)))
    yield* hold.reached
    assert.isTrue(sendControl.mayHaveBeenSent)
  }))

it.effect("a client that is closed answers nothing definite of a write that is under way", () =>
  Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const backend = yield* store.connect
    const scope = yield* Scope.make()
    const faults = yield* Scope.provide(KvFaults.make(backend), scope)
    yield* faults.inject(KvFaults.delayAnswer("1 hour"), { times: Infinity })
    const patient = Deadline.within("2 hours")
    const putting = yield* Effect.forkChild(reasonOf(patient(faults.kv.put("k", "1"))))
    const granting = yield* Effect.forkChild(reasonOf(patient(faults.backend.leaseGrant({ ttl: "10 seconds" }))))
    yield* settle
    yield* Scope.close(scope, Exit.void)
    yield* settle
    assert.deepStrictEqual(
      [yield* Fiber.join(putting), yield* Fiber.join(granting)],
      ["Indeterminate", "Indeterminate"]
    )
  }))

it.effect("calm ends injections, holds, silence and a partition", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* faults.inject(KvFaults.unavailable, { when: KvFaults.writes("a"), times: Infinity })
    yield* faults.inject(KvFaults.silently(KvFaults.loseAnswer), { when: KvFaults.writes("b") })
    const hold = yield* faults.hold("request", { when: KvFaults.writes("c") })
    const silent = yield* Effect.forkChild(reasonOf(kv.put("b", "1")))
    const held = yield* Effect.forkChild(kv.put("c", "1"))
    yield* hold.reached
    yield* faults.partition({ requests: "late" })
    yield* faults.calm
    yield* settle
    assert.strictEqual(yield* Fiber.join(silent), "Indeterminate")
    yield* Fiber.join(held)
    yield* kv.put("a", "1")

    yield* faults.inject(KvFaults.silently(KvFaults.loseAnswer))
    const alone = yield* Effect.forkChild(reasonOf(kv.put("b", "1")))
    yield* settle
    yield* faults.calm
    yield* settle
    assert.isTrue(isDone(alone), "a silence without a partition ends too")
  }))

it.effect("what ends after the client, in the same scope or later, reaches the store whatever is injected then", () =>
  Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const backend = yield* store.connect
    const scope = yield* Scope.make()
    const faults = yield* Scope.provide(KvFaults.make(backend), scope)
    yield* Scope.close(scope, Exit.void)
    yield* faults.inject(KvFaults.delayRequest("1 hour"))
    yield* faults.kv.put("k", "1")
    assert.deepStrictEqual(yield* faults.kv.get("k"), Option.some("1"))
  }))

it.effect("the oldest injection that is due strikes, before what is at random; the others see the call", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const second = yield* faults.inject(KvFaults.unavailable, { nth: 2 })
    const first = yield* faults.inject(KvFaults.loseRequest)
    const third = yield* faults.inject(KvFaults.loseAnswer)
    yield* faults.randomly({ seed: 1, unavailable: 1 })
    const reasons = yield* Effect.forEach(["a", "b", "c"], (key) => reasonOf(kv.put(key, "1")))
    assert.deepStrictEqual(reasons, ["Indeterminate", "Unavailable", "Indeterminate"])
    assert.deepStrictEqual(
      (yield* faults.injected).map(({ description }) => description),
      ["request lost", "unavailable", "answer lost"]
    )
    assert.deepStrictEqual([yield* first.count, yield* second.count, yield* third.count], [1, 1, 1])
  }))

it.effect("a client has the deadline it is given, and faults at random from the beginning", () =>
  Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const faults = yield* KvFaults.make(yield* store.connect, {
      deadline: "1 second",
      random: { seed: 1, when: KvFaults.reads("k"), silence: 1 }
    })
    yield* faults.kv.put("k", "1")
    const reading = yield* Effect.forkChild(reasonOf(faults.kv.get("k")))
    yield* TestClock.adjust("1 second")
    assert.strictEqual(yield* Fiber.join(reading), "DeadlineExceeded")
  }))

it.effect("at random a silence swallows requests as well as answers, and delays are of both, a millisecond at least", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* faults.randomly({ seed: 3, silence: 0.2, delay: 1, maxDelay: "2 millis" })
    yield* Effect.forEach(
      Array.from({ length: 200 }, (_, i) => i),
      (i) => Effect.forkChild(Effect.ignore(kv.put(`k/${i}`, "v")))
    )
    yield* TestClock.adjust("1 minute")
    const descriptions = new Set((yield* faults.injected).map(({ description }) => description))
    const delays = ["0 + 1", "0 + 2", "1 + 0", "1 + 1", "1 + 2", "2 + 0", "2 + 1", "2 + 2"].map((d) =>
      `delayed by ${d} ms`
    )
    assert.deepStrictEqual(
      [...descriptions].filter((description) => description.startsWith("delayed")).sort(),
      delays
    )
    assert.isTrue([...descriptions].some((description) => description.startsWith("request lost silently")))
    assert.isTrue([...descriptions].some((description) => description.startsWith("answer lost silently")))
  }))

it.effect("at random events of watches are late", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    const watch = yield* kv.subscribe(KeyRange.key("k"))
    yield* faults.randomly({ seed: 1, delay: 1 })
    yield* other.put("k", "1")
    const taking = yield* Effect.forkChild(watcherOf(watch).take)
    yield* settle
    assert.isFalse(isDone(taking))
    yield* TestClock.adjust("100 millis")
    assert.lengthOf(yield* Fiber.join(taking), 1)
  }))

it.effect("what a watch has received and was not handed on is there for the next take, however often that is given up", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    const watch = yield* kv.subscribe(KeyRange.key("k"))
    yield* faults.randomly({ seed: 1, delay: 1 })
    yield* other.put("k", "1")
    const first = yield* Effect.forkChild(watcherOf(watch).take)
    yield* settle
    yield* Fiber.interrupt(first)
    const second = yield* Effect.forkChild(watcherOf(watch).take)
    yield* settle
    assert.isFalse(isDone(second), "late again")
    yield* TestClock.adjust("100 millis")
    assert.lengthOf(yield* Fiber.join(second), 1)
    const third = yield* Effect.forkChild(watcherOf(watch).take)
    yield* TestClock.adjust("1 second")
    assert.isFalse(isDone(third), "handed on once")
  }))

it.effect("a watch whose store is out of reach when it is to be connected again is tried until it is back", () =>
  Effect.gen(function*() {
    const { other, store } = yield* clients
    const backend = yield* store.connect
    const below = yield* KvFaults.make(backend)
    const faults = yield* KvFaults.make(below.backend)
    const watch = yield* faults.kv.subscribe(KeyRange.key("k"))
    const down = yield* below.inject(KvFaults.unavailable, { times: Infinity })
    yield* faults.cutWatches()
    yield* other.put("k", "1")
    const taking = yield* Effect.forkChild(watcherOf(watch).take)
    yield* TestClock.adjust("10 seconds")
    assert.isFalse(isDone(taking))
    yield* down.remove
    yield* TestClock.adjust("100 millis")
    assert.lengthOf(yield* Fiber.join(taking), 1)
  }))

it.effect("a watch that is cut twice, once with its history, stays without what it misses", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    const watch = yield* kv.subscribe(KeyRange.key("k"))
    yield* faults.cutWatches({ compacted: true })
    yield* settle
    yield* faults.cutWatches()
    yield* settle
    yield* other.put("k", "1")
    assert.strictEqual(yield* reasonOf(watcherOf(watch).take), "Compacted")
  }))

it.effect("a watch that was closed is not cut", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* Effect.scoped(kv.subscribe(KeyRange.key("k")))
    assert.strictEqual(yield* faults.cutWatches(), 0)
  }))

it.effect("what is on its way over a connection that is cut is lost, and comes once, over the next", () =>
  Effect.gen(function*() {
    const { other, store } = yield* clients
    const backend = yield* store.connect
    const faults = yield* KvFaults.make({
      ...backend,
      watch: (request) =>
        Effect.map(backend.watch(request), (watcher) => ({
          ...watcher,
          take: Effect.flatMap(watcher.take, (batches) => Effect.as(Effect.sleep("1 second"), batches))
        }))
    })
    const watch = yield* faults.kv.subscribe(KeyRange.key("k"))
    yield* other.put("k", "1")
    const first = yield* Effect.forkChild(watcherOf(watch).take)
    yield* settle
    yield* faults.cutWatches()
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(yield* Fiber.join(first), 1)
    const second = yield* Effect.forkChild(watcherOf(watch).take)
    yield* TestClock.adjust("10 seconds")
    assert.isFalse(isDone(second))
  }))
