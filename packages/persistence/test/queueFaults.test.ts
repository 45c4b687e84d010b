/**
 * Persisted queues under faults, on memory and the test clock: lost responses, workers that die or are cut off, watches that
 * break. The history of the store is checked after each case.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import { KvFaults } from "@effect-kv/test-suite/testing"
import type { QueueChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as history from "./support/history.ts"
import { advance, fleet, type Process, settled } from "./support/processes.ts"

const checked = (kv: Kv.Kv) => history.checked(kv, "persisted-queue/")

/** A take that is in progress: what it got, and how to end it. */
const holding = Effect.fnUntraced(function*(queue: PersistedQueue.PersistedQueue<string>) {
  const taken = yield* Deferred.make<readonly [string, number]>()
  const end = yield* Deferred.make<string, string>()
  const fiber = yield* Effect.forkScoped(
    queue.take((text, { attempts }) =>
      Effect.andThen(Deferred.succeed(taken, [text, attempts] as const), Deferred.await(end))
    )
  )
  return { taken: Deferred.await(taken), isTaken: Deferred.isDone(taken), end, fiber }
})

/** Cuts a process off from the store: for good, it is as good as dead to the others. In the end the link is healed. */
const whileCutOff = ({ faults }: Process) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.ensuring(Effect.andThen(faults.partition({ requests: "lost" }), effect), faults.calm)

/** Ends the leases of a process, as if it had stopped to renew them. */
const endLeases = ({ faults }: Process) =>
  Effect.flatMap(
    faults.leases,
    (leases) => Effect.forEach(leases, (lease) => Effect.ignore(faults.endLease(lease)), { discard: true })
  )

const writesTo = (part: string) => (call: KvFaults.Call) =>
  call.op !== undefined && KvFaults.isWrite(call) &&
  JSON.stringify(call.op, (_, value) => typeof value === "bigint" ? `${value}` : value).includes(part)

describe("workers that are gone", () => {
  it.effect("the item of a worker that dies is delivered to another one when the lease ends, and the attempt counts", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [dying, other] = [yield* start(), yield* start()]
      yield* (yield* other.queue("a")).offer("one")
      const first = yield* holding(yield* dying.queue("a"))
      yield* first.taken
      const second = yield* holding(yield* other.queue("a"))
      yield* whileCutOff(dying)(Effect.gen(function*() {
        yield* advance("6 seconds")
        assert.isFalse(yield* second.isTaken)
        yield* advance("6 seconds")
        assert.deepStrictEqual(yield* second.taken, ["one", 2])
        yield* Deferred.succeed(second.end, "done")
        yield* Fiber.join(second.fiber)
      }))
      assert.deepInclude(yield* checked(kv), { completed: 1, takenOver: 1, claims: 2 })
    }))

  it.effect("keys that another program has put among the claims of a worker that dies do not hide its item", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [dying, other] = [yield* start(), yield* start()]
      const first = yield* holding(yield* dying.queue("a"))
      yield* settled
      const { entries } = yield* kv.range(KeyRange.prefix("persisted-queue/a/worker/"))
      const worker = entries[0]!.key.split("/")[3]!
      for (let i = 0; i < 100; i++) yield* kv.put(`persisted-queue/a/claim/${worker}/foreign-${i}`, "foreign")
      yield* (yield* other.queue("a")).offer("one")
      yield* first.taken
      const second = yield* holding(yield* other.queue("a"))
      yield* whileCutOff(dying)(Effect.gen(function*() {
        yield* advance("12 seconds")
        assert.deepStrictEqual(yield* second.taken, ["one", 2])
      }))
    }))

  it.effect("a worker that has lost its claim cannot complete the item: the outcome that the other worker records stands", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [stale, other] = [yield* start(), yield* start()]
      const queue = yield* other.queue("a", { maxAttempts: 2 })
      yield* queue.offer("one", { id: "1" })
      const first = yield* holding(yield* stale.queue("a"))
      yield* first.taken
      yield* endLeases(stale)
      const second = yield* holding(queue)
      assert.deepStrictEqual(yield* second.taken, ["one", 2])
      yield* Deferred.succeed(first.end, "too late")
      yield* Fiber.join(first.fiber)
      assert.deepInclude(yield* checked(kv), { completed: 0 })
      yield* Deferred.fail(second.end, "boom")
      yield* Fiber.await(second.fiber)
      assert.deepInclude(yield* checked(kv), { completed: 0, failed: 1 })
    }))

  it.effect("a worker that has lost its claim can neither fail the item nor return it", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [stale, other] = [yield* start(), yield* start()]
      const queue = yield* other.queue("a")
      const there = yield* stale.queue("a")
      for (const text of ["one", "two"]) yield* queue.offer(text)
      const lost = [yield* holding(there), yield* holding(there)]
      for (const { taken } of lost) yield* taken
      yield* endLeases(stale)
      const held = [yield* holding(queue), yield* holding(queue)]
      for (const { taken } of held) yield* taken
      yield* Deferred.fail(lost[0]!.end, "boom")
      yield* Fiber.interrupt(lost[1]!.fiber)
      yield* Fiber.await(lost[0]!.fiber)
      yield* advance("1 minute")
      for (const { end, fiber } of held) {
        yield* Deferred.succeed(end, "done")
        yield* Fiber.join(fiber)
      }
      assert.deepInclude(yield* checked(kv), { completed: 2, claims: 4, failed: 0 })
    }))

  it.effect("a worker whose lease ended completes its item unless another has taken it over, and continues with a new lease", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      yield* queue.offer("one")
      const { end, fiber, taken } = yield* holding(queue)
      yield* taken
      yield* endLeases(process)
      yield* advance("20 seconds")
      yield* Deferred.succeed(end, "done")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
      yield* queue.offer("two")
      assert.strictEqual(yield* queue.take(Effect.succeed), "two")
      assert.deepInclude(yield* checked(kv), { completed: 2, claims: 2 })
    }))

  it.effect("handlers that still run for a lost worker do not hide an item that it had claimed for no handler yet", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      const running = 33
      for (let i = 0; i < running; i++) yield* queue.offer(`${i}`)
      const takes = yield* Effect.forEach(Array.from({ length: running + 1 }), () => holding(queue))
      yield* settled
      const response = yield* process.faults.hold("response", { when: writesTo("/claim/") })
      yield* queue.offer("last")
      yield* response.reached
      yield* endLeases(process)
      yield* advance("15 seconds")
      yield* response.letGo
      yield* settled
      assert.deepStrictEqual(yield* takes[running]!.taken, ["last", 2])
      for (const { end, fiber } of takes) {
        yield* Deferred.succeed(end, "done")
        yield* advance("1 second")
        yield* Fiber.join(fiber)
      }
      assert.deepInclude(yield* checked(kv), { completed: running + 1 })
    }))

  it.effect("an item whose worker died in the last attempt has failed", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [dying, other] = [yield* start(), yield* start()]
      yield* (yield* other.queue("a", { maxAttempts: 1 })).offer("one")
      const first = yield* holding(yield* dying.queue("a", { maxAttempts: 1 }))
      yield* first.taken
      yield* endLeases(dying)
      const second = yield* holding(yield* other.queue("a", { maxAttempts: 1 }))
      yield* settled
      assert.deepInclude(yield* checked(kv), { failed: 1, claims: 1 })
      yield* Fiber.interrupt(second.fiber)
    }))

  it.effect("a process that starts after all others have died finds their items, and leaves no trace of them", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const dying = yield* start()
      const there = yield* dying.queue("a")
      for (const text of ["one", "two", "three"]) yield* there.offer(text)
      const held = [yield* holding(there), yield* holding(there)]
      for (const { taken } of held) yield* taken
      yield* whileCutOff(dying)(Effect.gen(function*() {
        yield* advance("20 seconds")
        const queue = yield* (yield* start()).queue("a")
        const taken: Array<readonly [string, number]> = []
        for (let i = 0; i < 3; i++) {
          taken.push(yield* queue.take((text, { attempts }) => Effect.succeed([text, attempts] as const)))
        }
        assert.deepStrictEqual(taken, [["one", 2], ["two", 2], ["three", 1]])
        const waiting = yield* holding(queue)
        yield* settled
        yield* checked(kv)
        const { count } = yield* kv.range(KeyRange.prefix("persisted-queue/a/worker/"), { countOnly: true })
        assert.strictEqual(count, 2, "those of the worker that lives")
        yield* Fiber.interrupt(waiting.fiber)
      }))
    }))

  it.effect("a process that shuts down gracefully returns its items at once, and the attempts do not count", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [closing, other] = [yield* start(), yield* start()]
      const queue = yield* other.queue("a")
      yield* queue.offer("one")
      const first = yield* holding(yield* closing.queue("a"))
      yield* first.taken
      const second = yield* holding(queue)
      yield* Fiber.interrupt(first.fiber)
      yield* closing.close
      assert.deepStrictEqual(yield* second.taken, ["one", 1])
      yield* Fiber.interrupt(second.fiber)
      assert.deepInclude(yield* checked(kv), { takenOver: 0 })
    }))

  it.effect("takes fail if they wait when the layer closes, or begin later", () =>
    Effect.gen(function*() {
      const { start } = yield* fleet
      const closing = yield* start()
      const queue = yield* closing.queue("a")
      const waiting = yield* Effect.forkScoped(Effect.flip(queue.take(Effect.succeed)))
      yield* settled
      yield* closing.close
      for (const error of [yield* Fiber.join(waiting), yield* Effect.flip(queue.take(Effect.succeed))]) {
        assert.instanceOf(error, PersistedQueue.PersistedQueueError)
        assert.match(error.message, /its layer was closed/)
      }
    }))
})

describe("outages", () => {
  it.effect("a take waits through an outage in which its session ends, and the outcome of an item is recorded after the outage", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [cut, other] = [yield* start(), yield* start()]
      const queue = yield* cut.queue("a")
      yield* (yield* other.queue("a")).offer("one")
      const first = yield* holding(queue)
      yield* first.taken
      const second = yield* Effect.forkScoped(queue.take(Effect.succeed))
      yield* whileCutOff(cut)(Effect.gen(function*() {
        yield* Deferred.succeed(first.end, "done")
        yield* advance("1 minute")
        assert.strictEqual(yield* Fiber.join(first.fiber), "done", "the take does not wait for the store indefinitely")
        yield* (yield* other.queue("a")).offer("two")
      }))
      yield* advance("20 seconds")
      assert.strictEqual(yield* Fiber.join(second), "two")
      assert.deepInclude(yield* checked(kv), { completed: 2, claims: 2 })
    }))
})

describe("lost responses", () => {
  it.effect("an offer whose response was lost is stored once, even if the item was completed before the retry", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const [producer, consumer] = [yield* start(), yield* start()]
      const hold = yield* producer.faults.hold("response", { when: writesTo("/item/") })
      const offer = yield* Effect.forkScoped((yield* producer.queue("a")).offer("one"))
      yield* hold.reached
      const queue = yield* consumer.queue("a")
      assert.strictEqual(yield* queue.take(Effect.succeed), "one")
      yield* producer.faults.partition({ requests: "late" })
      yield* producer.faults.heal
      yield* hold.letGo
      yield* advance("10 seconds")
      yield* Fiber.join(offer)
      const again = yield* holding(queue)
      yield* advance("1 minute")
      yield* Fiber.interrupt(again.fiber)
      assert.deepInclude(yield* checked(kv), { offered: 1, claims: 1, completed: 1 })
    }))

  const losses = {
    loseResponse: KvFaults.loseResponse,
    loseRequest: KvFaults.loseRequest,
    applyLate: KvFaults.applyLate("2 seconds")
  }
  for (const [name, fault] of Object.entries(losses)) {
    it.effect(`offers, claims and ends take effect once if each of them meets ${name}`, () =>
      Effect.gen(function*() {
        const { kv, start } = yield* fleet
        const process = yield* start()
        const queue = yield* process.queue("a", { retrySchedule: Schedule.spaced("1 second") })
        const struck = []
        for (const part of ["/item/", "/claim/"]) {
          struck.push(yield* process.faults.inject(fault, { when: writesTo(part) }))
        }
        const offer = yield* Effect.forkScoped(queue.offer("one"))
        const { end, fiber, taken } = yield* holding(queue)
        yield* advance("30 seconds")
        yield* Fiber.join(offer)
        assert.deepStrictEqual(yield* taken, ["one", 1])
        struck.push(yield* process.faults.inject(fault, { when: writesTo("/spent/") }))
        yield* Deferred.succeed(end, "done")
        yield* advance("30 seconds")
        yield* Fiber.join(fiber)
        for (const { count } of struck) assert.strictEqual(yield* count, 1)
        yield* advance("1 minute")
        assert.deepInclude(yield* checked(kv), { offered: 1, claims: 1, completed: 1 })
      }))
  }

  it.effect("an item that was claimed while the watch broke reaches a taker of the same worker", () =>
    Effect.gen(function*() {
      const { kv, start } = yield* fleet
      const process = yield* start()
      const queue = yield* process.queue("a")
      const { end, fiber, taken } = yield* holding(queue)
      yield* settled
      const hold = yield* process.faults.hold("response", { when: writesTo("/claim/") })
      yield* queue.offer("one")
      yield* hold.reached
      yield* process.faults.cutWatches({ compacted: true })
      yield* (yield* start()).store.offer({ name: "a", id: "2", element: "two", isCustomId: true })
      yield* advance("1 second")
      yield* hold.letGo
      yield* advance("10 seconds")
      assert.deepStrictEqual(yield* taken, ["one", 1])
      yield* Deferred.succeed(end, "done")
      yield* Fiber.join(fiber)
      assert.strictEqual(yield* queue.take(Effect.succeed), "two")
      assert.deepInclude(yield* checked(kv), { claims: 2, takenOver: 0 })
    }))
})

/** Many items, workers that fail, are interrupted and lose their leases, and random faults on every call. */
const randomRun = (seed: number, change?: (backend: KvBackend) => KvBackend) =>
  Effect.gen(function*() {
    const { kv, start } = yield* fleet
    const processes = yield* Effect.forEach([0, 1, 2], () => start(change === undefined ? {} : { change }))
    for (const [i, { faults }] of processes.entries()) {
      yield* faults.randomly({
        seed: seed + i,
        unavailable: 0.02,
        loseRequest: 0.04,
        loseResponse: 0.06,
        applyLate: 0.04
      })
    }
    const items = Array.from({ length: 24 }, (_, i) => `${i}`)
    const handler = Effect.gen(function*() {
      yield* Effect.sleep(yield* Random.nextIntBetween(1, 3000))
      const dice = yield* Random.nextIntBetween(0, 6)
      if (dice === 0) return yield* Effect.fail("boom")
      if (dice === 1) return yield* Effect.interrupt
    })
    for (const process of processes) {
      const queue = yield* process.queue("a", { maxAttempts: 4, retrySchedule: Schedule.spaced("2 seconds") })
      const worker = Effect.exit(queue.take(() => handler))
      for (let i = 0; i < 2; i++) yield* Effect.forkScoped(Effect.forever(worker))
    }
    for (const [i, item] of items.entries()) {
      const process = processes[i % processes.length]!
      yield* Effect.forkScoped(
        process.store.offer({ name: "a", id: item, element: item, isCustomId: i % 2 === 0 }).pipe(
          Effect.retry(Schedule.spaced("1 second"))
        )
      )
    }
    for (let step = 0; step < 60; step++) {
      yield* advance("1 second")
      if (step % 12 === 5) yield* endLeases(processes[(step / 12 | 0) % processes.length]!)
    }
    for (const { faults } of processes) yield* faults.calm
    for (let step = 0; step < 30; step++) yield* advance("1 second")
    return yield* history.report(kv, "persisted-queue/")
  }).pipe(Random.withSeed(seed))

describe("random faults", () => {
  for (const seed of [1, 2, 3]) {
    it.effect(`every item is completed once, or has failed (seed ${seed})`, () =>
      Effect.gen(function*() {
        const summary = yield* randomRun(seed)
        assert.deepStrictEqual(summary.violations, [])
        assert.strictEqual(summary.offered, 24)
        assert.strictEqual(summary.completed + summary.failed, 24)
      }))
  }
})

/** Drops conditions from transactions, the nested ones included. */
const without =
  (isDropped: (compare: Op.Txn["if"][number], op: Op.Txn) => boolean) => (backend: KvBackend): KvBackend => {
    const change = (op: Op.Op): Op.Op =>
      op._tag === "Txn"
        ? Op.txn({
          if: op.if.filter((compare) => !isDropped(compare, op)),
          then: op.then.map(change),
          else: op.else.map(change)
        })
        : op
    return { ...backend, execute: (op) => backend.execute(change(op) as typeof op) }
  }

const keyOf = (compare: Op.Txn["if"][number]): string => "key" in compare ? compare.key : ""

/** Sees no worker alive. */
const blind = (backend: KvBackend): KvBackend => {
  const isAlive = (key: string) => key.endsWith("/alive")
  const trusting = without((compare) => isAlive(keyOf(compare)))(backend)
  return {
    ...trusting,
    execute: (op) =>
      Effect.map(trusting.execute(op), (response) =>
        response._tag === "Range"
          ? { ...response, entries: response.entries.filter(({ key }) => !isAlive(key)) }
          : response)
  }
}

describe("the checker finds", () => {
  const mutants: ReadonlyArray<readonly [string, (backend: KvBackend) => KvBackend, QueueChecker.Kind]> = [
    ["an end that is not fenced", without((compare) => keyOf(compare).includes("/claim/")), "CompletedWithoutClaim"],
    [
      "a claim that does not require that the item is still there",
      without((compare) => keyOf(compare).includes("/head/")),
      "SeveralPlaces"
    ],
    ["a claim that is taken from a live worker", blind, "TakenFromLiveWorker"]
  ]
  for (const [title, change, expected] of mutants) {
    it.effect(title, () =>
      Effect.gen(function*() {
        const { violations } = yield* randomRun(1, change)
        assert.include(violations.map(({ kind }) => kind), expected)
      }))
  }
})
