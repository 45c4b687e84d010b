/**
 * Persisted queues on memory, under the test clock: what Effect's queue demands of a store, with one process and several.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Schedule from "effect/Schedule"
import * as KvPersistedQueue from "../src/KvPersistedQueue.ts"
import * as history from "./support/history.ts"
import { advance, fleet, settled } from "./support/processes.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** Takes an item and keeps it until it is told how to end. */
const hold = Effect.fnUntraced(function*(queue: PersistedQueue.PersistedQueue<string>) {
  const taken = yield* Deferred.make<{ readonly value: string; readonly attempts: number }>()
  const end = yield* Deferred.make<void, string>()
  const fiber = yield* Effect.forkScoped(
    queue.take((value, { attempts }) =>
      Effect.andThen(Deferred.succeed(taken, { value, attempts }), Deferred.await(end))
    )
  )
  return { taken: Deferred.await(taken), end, fiber }
})

describe("takes", () => {
  it.effect("a take gets what was offered, as its first attempt, in the order of the offers", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      for (const text of ["one", "two", "three"]) yield* queue.offer(text)
      const taken: Array<string> = []
      for (let i = 0; i < 3; i++) {
        yield* queue.take((text, { attempts }) => Effect.sync(() => taken.push(`${text} ${attempts}`)))
      }
      assert.deepStrictEqual(taken, ["one 1", "two 1", "three 1"])
    }))

  it.effect("a take that waits gets an item that is offered later, by another process", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      const fiber = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* settled
      assert.isUndefined(fiber.pollUnsafe())
      yield* (yield* (yield* start()).queue("a")).offer("later")
      assert.strictEqual(yield* Fiber.join(fiber), "later")
    }))

  it.effect("an item is not delivered again while it is processed, however long that takes, nor after it is completed", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const [here, there] = [yield* (yield* start()).queue("a"), yield* (yield* start()).queue("a")]
      yield* here.offer("once")
      const { end, fiber, taken } = yield* hold(here)
      yield* taken
      const other = yield* Effect.forkScoped(there.take(Effect.succeed))
      yield* advance("5 minutes")
      assert.isUndefined(other.pollUnsafe())
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(fiber)
      yield* advance("5 minutes")
      assert.isUndefined(other.pollUnsafe())
    }))

  it.effect("an interrupted take returns the item at once to the head of the queue, and the attempt does not count", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      yield* queue.offer("one")
      yield* queue.offer("two")
      const { fiber, taken } = yield* hold(queue)
      yield* taken
      yield* Fiber.interrupt(fiber)
      const again = yield* hold(queue)
      assert.deepStrictEqual(yield* again.taken, { value: "one", attempts: 1 })
    }))

  it.effect("a take that is interrupted while it waits leaves the next item to the others", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      const first = yield* Effect.forkScoped(queue.take(Effect.succeed))
      const second = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* settled
      yield* Fiber.interrupt(first)
      yield* queue.offer("one")
      assert.strictEqual(yield* Fiber.join(second), "one")
    }))

  it.effect("a take that is interrupted just as it gets an item loses nothing", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      for (let i = 0; i < 30; i++) {
        const fiber = yield* Effect.forkScoped(queue.take(Effect.succeed), { startImmediately: true })
        yield* queue.offer(`${i}`)
        for (let steps = 0; steps < i; steps++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        if (Exit.isFailure(yield* Fiber.await(fiber))) assert.strictEqual(yield* queue.take(Effect.succeed), `${i}`)
      }
      yield* settled
      const { claimed, completed, delayed, ready } = yield* on(kv)(KvPersistedQueue.counts("a"))
      assert.deepStrictEqual({ claimed, completed, delayed, ready }, {
        claimed: 0,
        completed: 30,
        delayed: 0,
        ready: 0
      })
    }))

  it.effect("many takers process each of many items once, and each failed item once more", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const processes = [yield* start(), yield* start(), yield* start()]
      const deliveries = new Map<string, number>()
      const items = Array.from({ length: 60 }, (_, i) => `${i}`)
      for (const process of processes) {
        const queue = yield* process.queue("a", { retrySchedule: Schedule.spaced(0) })
        const worker = queue.take((text) =>
          Effect.suspend(() => {
            const count = (deliveries.get(text) ?? 0) + 1
            deliveries.set(text, count)
            return Number(text) % 3 === 0 && count === 1 ? Effect.fail("first") : Effect.void
          })
        )
        for (let i = 0; i < 4; i++) yield* Effect.forkScoped(Effect.forever(Effect.ignore(worker)))
      }
      const queue = yield* processes[0]!.queue("a")
      yield* Effect.forEach(items, (item) => queue.offer(item), { concurrency: 8, discard: true })
      yield* advance("1 second")
      for (const item of items) assert.strictEqual(deliveries.get(item), Number(item) % 3 === 0 ? 2 : 1, item)
      assert.deepInclude(yield* history.checked(kv, "persisted-queue/"), { completed: 60, claims: 80 })
    }))
})

describe("retries and failures", () => {
  it.effect("a failed take delivers the item again after the schedule's delay, by the clock of the layer, and counts", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a", { retrySchedule: Schedule.exponential("1 second") })
      yield* queue.offer("one")
      const attempts: Array<number> = []
      const failing = queue.take((_, metadata) => {
        attempts.push(metadata.attempts)
        return Effect.fail("boom")
      })
      assert.strictEqual(yield* Effect.flip(failing), "boom")
      const second = yield* Effect.forkScoped(Effect.flip(failing))
      yield* advance(999)
      assert.isUndefined(second.pollUnsafe())
      yield* advance(1)
      assert.strictEqual(yield* Fiber.join(second), "boom")
      const third = yield* Effect.forkScoped(Effect.flip(failing))
      yield* advance(1999)
      assert.isUndefined(third.pollUnsafe())
      yield* advance(1)
      yield* Fiber.join(third)
      assert.deepStrictEqual(attempts, [1, 2, 3])
    }))

  it.effect("another process wakes for a retry that is due earlier than any item it knows of", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const here = yield* (yield* start()).queue("a", { retrySchedule: Schedule.spaced("1 second") })
      const there = yield* (yield* start()).queue("a")
      yield* here.offer("tomorrow", { delay: "1 day" })
      yield* here.offer("one")
      const waiting = yield* hold(here)
      yield* waiting.taken
      const fiber = yield* Effect.forkScoped(there.take((text, { attempts }) => Effect.succeed([text, attempts])))
      yield* settled
      yield* Deferred.fail(waiting.end, "boom")
      yield* advance("1 second")
      assert.deepStrictEqual(yield* Fiber.join(fiber), ["one", 2])
    }))

  it.effect("a retry schedule that throws is a defect of the take, and the item is delivered again at once", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      yield* queue.offer("one")
      const take = process.store.take({ name: "a", maxAttempts: 3, retryDelay: () => Effect.die("a test fault") })
      const exit = yield* Effect.exit(Effect.scoped(Effect.andThen(take, Effect.fail("handler"))))
      assert.isTrue(Exit.hasDies(exit))
      assert.strictEqual(yield* queue.take((_, { attempts }) => Effect.succeed(attempts)), 2)
    }))

  it.effect("an item without attempts left has failed: it is not delivered again, and can be inspected", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const queue = yield* (yield* start()).queue("a", { maxAttempts: 2, retrySchedule: Schedule.spaced(0) })
      yield* queue.offer("one", { id: "id/1" })
      for (let i = 0; i < 2; i++) yield* Effect.flip(queue.take(() => Effect.fail("boom")))
      const fiber = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* advance("2 minutes")
      assert.isUndefined(fiber.pollUnsafe())
      const [failed] = yield* on(kv)(KvPersistedQueue.failed("a"))
      assert.deepInclude(failed, { id: "id/1", attempts: 2, element: "one" })
      assert.include(failed!.error, "boom")
    }))

  it.effect("an element that does not decode fails at once, and the next one is taken", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      yield* process.store.offer({ name: "a", id: "poison", element: { not: "text" }, isCustomId: true })
      yield* queue.offer("good")
      assert.strictEqual(yield* queue.take(Effect.succeed), "good")
      const failed = yield* on(kv)(KvPersistedQueue.failed("a"))
      assert.deepStrictEqual(failed.map(({ attempts, id }) => [id, attempts]), [["poison", 1]])
      assert.include(failed[0]!.error, "could not be decoded")
    }))

  it.effect("a defect is a failure, not an interruption", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a", { retrySchedule: Schedule.spaced(0) })
      yield* queue.offer("one")
      const exit = yield* Effect.exit(queue.take(() => Effect.die("defect")))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.strictEqual(yield* queue.take((_, { attempts }) => Effect.succeed(attempts)), 2)
    }))
})

describe("delays and ids", () => {
  it.effect("a delayed item is not delivered before its time, and does not delay the others", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      yield* queue.offer("late", { delay: "90 seconds" })
      yield* queue.offer("later", { delay: "2 minutes" })
      yield* queue.offer("now", { delay: 0 })
      assert.strictEqual(yield* queue.take(Effect.succeed), "now")
      const fiber = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* advance(89_999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* advance(1)
      assert.strictEqual(yield* Fiber.join(fiber), "late")
    }))

  it.effect("an id is accepted once in each queue, also after the item was completed", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const process = yield* start()
      const [a, b] = [yield* process.queue("a"), yield* process.queue("b")]
      yield* a.offer("1", { id: "same" })
      yield* a.offer("2", { id: "same", delay: "1 second" })
      yield* b.offer("3", { id: "same" })
      assert.strictEqual(yield* a.take(Effect.succeed), "1")
      assert.strictEqual(yield* b.take(Effect.succeed), "3")
      yield* a.offer("4", { id: "same" })
      const fiber = yield* Effect.forkScoped(a.take(Effect.succeed))
      yield* advance("2 minutes")
      assert.isUndefined(fiber.pollUnsafe())
    }))

  it.effect("names and ids may be any text: a queue whose name extends that of another shares no item with it", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const process = yield* start()
      const names = ["", "a", "a/", "a/b", "a/item/b", "ab", "a%2Fb", "a0", "\ud800", "%uD800", "queue/head/ready"]
      const ids = ["", "/", "a/b", "a%2Fb", "\udfff", "%", "a//b"]
      for (const name of names) {
        const queue = yield* process.queue(name)
        for (const id of ids) yield* queue.offer(JSON.stringify([name, id]), { id })
      }
      for (const name of names) {
        const queue = yield* process.queue(name)
        for (const id of ids) {
          const found = yield* queue.take((text, metadata) => Effect.succeed([text, metadata.id]))
          assert.deepStrictEqual(found, [JSON.stringify([name, id]), id])
        }
      }
    }))
})

describe("cleanup", () => {
  const cleanup = (timeToLive: Duration.Input, failedTimeToLive?: Duration.Input) => ({
    timeToLive: Duration.fromInputUnsafe(timeToLive),
    failedTimeToLive: failedTimeToLive === undefined ? undefined : Duration.fromInputUnsafe(failedTimeToLive)
  })

  it.effect("removes completed items after their time, with their ids, in all queues and in batches; others stay", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const [a, b] = [yield* process.queue("a"), yield* process.queue("a/b")]
      for (let i = 0; i < 100; i++) {
        yield* a.offer("x", { id: `${i}` })
        yield* a.take(Effect.succeed)
      }
      yield* b.offer("x", { id: "0" })
      yield* b.take(Effect.succeed)
      yield* b.offer("unprocessed", { id: "1" })
      yield* advance("1 minute")
      yield* a.offer("young", { id: "young" })
      yield* a.take(Effect.succeed)
      yield* process.store.cleanup(cleanup("1 hour"))
      assert.strictEqual((yield* on(kv)(KvPersistedQueue.counts("a"))).completed, 101)
      yield* process.store.cleanup(cleanup("1 minute"))
      assert.strictEqual((yield* on(kv)(KvPersistedQueue.counts("a"))).completed, 1)
      yield* a.offer("again", { id: "0" })
      assert.strictEqual(yield* a.take(Effect.succeed), "again")
      yield* b.offer("ignored", { id: "1" })
      assert.strictEqual(yield* b.take(Effect.succeed), "unprocessed")
    }))

  it.effect("removes failed items only if the options say so", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a", { maxAttempts: 1 })
      yield* queue.offer("1", { id: "same" })
      yield* Effect.flip(queue.take(() => Effect.fail("boom")))
      yield* advance("1 minute")
      yield* process.store.cleanup(cleanup(0))
      yield* queue.offer("2", { id: "same" })
      const fiber = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* advance("1 minute")
      assert.isUndefined(fiber.pollUnsafe())
      yield* process.store.cleanup(cleanup("30 days", "1 minute"))
      yield* queue.offer("3", { id: "same" })
      assert.strictEqual(yield* Fiber.join(fiber), "3")
    }))

  it.effect("the layer cleans up on its schedule", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start({ ttl: "1 hour" })
      const queue = yield* process.queue("a")
      yield* queue.offer("1", { id: "same" })
      yield* queue.take(Effect.succeed)
      yield* Layer.build(KvPersistedQueue.layerCleanup({ interval: "10 minutes", timeToLive: "1 hour" })).pipe(
        Effect.provideService(PersistedQueue.PersistedQueueStore, process.store)
      )
      yield* advance("50 minutes")
      assert.strictEqual((yield* on(kv)(KvPersistedQueue.counts("a"))).completed, 1)
      yield* advance("10 minutes")
      assert.strictEqual((yield* on(kv)(KvPersistedQueue.counts("a"))).completed, 0)
    }))

  it.effect("the records of items with generated ids are removed while others are completed, without a cleanup", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const queue = yield* (yield* start({ ttl: "1 hour" })).queue("a")
      for (let i = 0; i < 320; i++) {
        yield* queue.offer("x")
        yield* queue.take(Effect.succeed)
        if (i % 64 === 0) yield* advance("11 minutes")
      }
      yield* settled
      const { count } = yield* kv.range(KeyRange.prefix("persisted-queue/a/item/"), { countOnly: true })
      assert.isBelow(count, 160)
    }))
})

describe("errors", () => {
  it.effect("wrong options are rejected when the store is made, and wrong limits when they are used", () =>
    Effect.gen(function*() {
      const { kv } = yield* fleet
      for (const options of [{ prefix: "" }, { prefix: "\ud800" }, { ttl: 0 }, { ttl: Duration.infinity }]) {
        const error = yield* Effect.flip(on(kv)(KvPersistedQueue.makeStore(options)))
        assert.strictEqual(error.reason._tag, "InvalidRequest")
      }
      for (const limit of [0, 65, 1.5]) {
        const error = yield* Effect.flip(on(kv)(KvPersistedQueue.failed("a", { limit })))
        assert.include(error.message, `not ${limit}`)
      }
    }))

  it.effect("a take fails if the store rejects its client, and a later one succeeds once it does not", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      let isRejected = true
      const change = (backend: KvBackend): KvBackend => ({
        ...backend,
        leaseGrant: (options) =>
          isRejected
            ? KvError.fail(new KvError.PermissionDenied({ message: "permission denied" }))
            : backend.leaseGrant(options)
      })
      const queue = yield* (yield* start({ change })).queue("a")
      const error = yield* Effect.flip(queue.take(Effect.succeed))
      assert.strictEqual(error._tag, "PersistedQueueError")
      assert.include(error.message, "PermissionDenied")
      isRejected = false
      yield* queue.offer("one")
      assert.strictEqual(yield* queue.take(Effect.succeed), "one")
    }))

  it.effect("an offer that does not fit into a request fails, and nothing is stored", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const queue = yield* (yield* start()).queue("a")
      const error = yield* Effect.flip(queue.offer("x".repeat(2_000_000)))
      assert.include(error.message, "RequestTooLarge")
      assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    }))
})

/** A change of a backend that counts its requests, and the entries that they return. */
const counting = () => {
  const counts = { requests: 0, entries: 0 }
  const entriesOf = (response: Op.Response): number =>
    response._tag === "Range"
      ? response.entries.length
      : response._tag === "Txn"
      ? response.responses.reduce((sum, one) => sum + entriesOf(one), 0)
      : 0
  const change = (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        counts.requests++
        return Effect.tap(backend.execute(op), (response) =>
          Effect.sync(() => {
            counts.entries += entriesOf(response)
          }))
      })
  })
  return { counts, change }
}

describe("cost", () => {
  it.effect("a process whose takers wait makes no request", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { change, counts } = counting()
      const idle = yield* (yield* start({ change })).queue("a")
      const other = yield* (yield* start()).queue("ab")
      yield* Effect.forkScoped(idle.take(Effect.succeed))
      yield* settled
      counts.requests = 0
      yield* other.offer("x")
      yield* other.take(Effect.succeed)
      yield* advance("1 minute")
      assert.strictEqual(counts.requests, 0)
    }))

  it.effect("one item wakes one of the takers of a process: it costs one request, however many wait", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const { change, counts } = counting()
      const idle = yield* (yield* start({ change })).queue("a")
      const takers = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.forkScoped(idle.take(() => Effect.never))
      )
      yield* settled
      counts.requests = 0
      yield* (yield* (yield* start()).queue("a")).offer("x")
      yield* settled
      assert.strictEqual(counts.requests, 1)
      assert.isTrue(takers.every((fiber) => fiber.pollUnsafe() === undefined))
    }))

  it.effect("keys that another program has put at the front hide no item, and are read a few times only", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const places = [
        (i: number) => `persisted-queue/a/head/ready/foreign-${i}`,
        (i: number) => `persisted-queue/a/head/due/000000000000/0000000000000000/foreign-${i}`
      ]
      for (const place of places) {
        for (let i = 0; i < 300; i++) yield* kv.put(place(i), "foreign")
      }
      const { change, counts } = counting()
      const queue = yield* (yield* start({ change })).queue("a")
      yield* queue.offer("one")
      yield* queue.offer("two", { delay: "1 second" })
      assert.strictEqual(yield* queue.take(Effect.succeed), "one")
      const second = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* advance("1 second")
      assert.strictEqual(yield* Fiber.join(second), "two")
      yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* advance("1 minute")
      assert.isAtMost(counts.requests, 25)
    }))

  it.effect("a hundred takers claim a hundred of 3,000 items by few requests, which return few entries", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const producer = yield* start()
      for (let i = 0; i < 3_000; i++) {
        yield* producer.store.offer({ name: "a", id: `${i}`, element: `${i}`, isCustomId: true })
      }
      const { change, counts } = counting()
      const queue = yield* (yield* start({ change })).queue("a")
      const taken: Array<string> = []
      yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.forkScoped(queue.take((text) => Effect.andThen(Effect.sync(() => taken.push(text)), Effect.never)))
      )
      yield* settled
      assert.deepStrictEqual(taken, Array.from({ length: 100 }, (_, i) => `${i}`))
      assert.isAtMost(counts.requests, 10)
      assert.isAtMost(counts.entries, 128 + 2 * 100 + 10)
    }))
})
