/**
 * Calls over the link of `KvFaults`: requests in flight when callers are interrupted, or the client is partitioned or closed.
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

it.effect("a renewal that was sent arrives even if its caller is interrupted", () =>
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

it.effect("a renewal whose response is lost is retried", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "10 seconds" })
    yield* faults.inject(KvFaults.loseResponse, { when: (call) => call.kind === "leaseKeepAlive" })
    assert.strictEqual((yield* backendOf(kv).leaseKeepAlive(id)).id, id)
    assert.lengthOf(yield* faults.injected, 1)
  }))

it.effect("a response does not reach a client that was partitioned meanwhile, and a read is retried after the heal", () =>
  Effect.gen(function*() {
    const { faults, kv, other } = yield* clients
    yield* faults.inject(KvFaults.delayResponse("1 second"), { times: 2 })
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

it.effect("a response that is delayed by a partition arrives after the heal if nothing is lost", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* faults.inject(KvFaults.delayResponse("1 second"))
    const putting = yield* Effect.forkChild(kv.put("k", "1").pipe(Deadline.within("1 minute")))
    yield* settle
    yield* faults.partition({ requests: "late" })
    yield* TestClock.adjust("30 seconds")
    assert.isFalse(isDone(putting))
    yield* faults.heal
    yield* Fiber.join(putting)
  }))

it.effect("a call that is cancelled before it is sent is not sent, and its caller can know", () =>
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

it.effect("a call that was sent is reported as possibly sent", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const sendControl = new SendControl.SendControl(() => false)
    const hold = yield* faults.hold("request")
    yield* Effect.forkChild(kv.put("k", "1").pipe(Effect.provideService(SendControl.Current, sendControl)))
    yield* hold.reached
    assert.isTrue(sendControl.mayHaveBeenSent)
  }))

it.effect("a write in flight is Indeterminate when its client is closed", () =>
  Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const backend = yield* store.connect
    const scope = yield* Scope.make()
    const faults = yield* Scope.provide(KvFaults.make(backend), scope)
    yield* faults.inject(KvFaults.delayResponse("1 hour"), { times: Infinity })
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
    yield* faults.inject(KvFaults.silently(KvFaults.loseResponse), { when: KvFaults.writes("b") })
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

    yield* faults.inject(KvFaults.silently(KvFaults.loseResponse))
    const alone = yield* Effect.forkChild(reasonOf(kv.put("b", "1")))
    yield* settle
    yield* faults.calm
    yield* settle
    assert.isTrue(isDone(alone), "a silence without a partition ends too")
  }))

it.effect("finalizers that run after the client was closed reach the store, whatever is injected then", () =>
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

it.effect("the oldest due injection strikes, before random faults; the others count the call", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    const second = yield* faults.inject(KvFaults.unavailable, { nth: 2 })
    const first = yield* faults.inject(KvFaults.loseRequest)
    const third = yield* faults.inject(KvFaults.loseResponse)
    yield* faults.randomly({ seed: 1, unavailable: 1 })
    const reasons = yield* Effect.forEach(["a", "b", "c"], (key) => reasonOf(kv.put(key, "1")))
    assert.deepStrictEqual(reasons, ["Indeterminate", "Unavailable", "Indeterminate"])
    assert.deepStrictEqual(
      (yield* faults.injected).map(({ description }) => description),
      ["request lost", "unavailable", "response lost"]
    )
    assert.deepStrictEqual([yield* first.count, yield* second.count, yield* third.count], [1, 1, 1])
  }))

it.effect("a client has the given deadline, and random faults from the start", () =>
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

it.effect("random silence loses requests and responses, and random delays of both are at least 1 ms", () =>
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
    assert.isTrue([...descriptions].some((description) => description.startsWith("response lost silently")))
  }))

it.effect("random faults delay events of watches", () =>
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

it.effect("events that a watch has received stay for the next take, even if takes are interrupted repeatedly", () =>
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

it.effect("the reconnection of a watch is retried while the store is unreachable", () =>
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

it.effect("a watch that is cut twice, once with a compaction, fails with Compacted", () =>
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

it.effect("a closed watch is not cut", () =>
  Effect.gen(function*() {
    const { faults, kv } = yield* clients
    yield* Effect.scoped(kv.subscribe(KeyRange.key("k")))
    assert.strictEqual(yield* faults.cutWatches(), 0)
  }))

it.effect("events in flight on a cut connection are lost, and delivered once over the next one", () =>
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
