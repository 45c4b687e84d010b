/**
 * Inventories: who holds and who waits in a whole store, and every other key with a lease.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as Inventory from "@effect-kv/core/Inventory"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as Lease from "@effect-kv/core/Lease"
import * as Members from "@effect-kv/core/Members"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, test } from "./Case.ts"
import { on, soon } from "./locking.ts"

/** Each queue as `kind name: holders | waiters`. */
const shown = ({ queues }: Inventory.Snapshot): ReadonlyArray<string> =>
  queues.map(({ contenders, kind, name }) => {
    const names = (isHolder: boolean) =>
      contenders.filter((each) => each.isHolder === isHolder).map(({ description }) => description).join(" ")
    return `${kind} ${name}: ${names(true)} | ${names(false)}`
  })

const read = (kv: Kv.Kv, range?: KeyRange.KeyRange) => on(kv)(Inventory.snapshot(range))

/** Starts an acquisition, and returns once its key is in the store. */
const enter = Effect.fnUntraced(function*<A, E, R>(kv: Kv.Kv, keys: number, acquire: Effect.Effect<A, E, R>) {
  yield* Effect.forkScoped(acquire)
  yield* soon(`${keys} keys`, Effect.map(kv.count(KeyRange.all), (count) => count === keys))
})

export const cases = chapter("inventories", [
  test(
    "an inventory has the holder of each lock and its waiters in their order, whichever client they belong to",
    function*(kv) {
      const other = yield* newClient
      const lock = yield* on(kv)(DistLock.acquire("jobs/nightly", { description: "a" }))
      yield* enter(kv, 2, on(other)(DistLock.acquire("jobs/nightly", { description: "b" })))
      yield* enter(kv, 3, on(kv)(Election.campaign("leader", { value: "10.0.0.7" })))
      const snapshot = yield* read(kv)
      assert.deepStrictEqual(shown(snapshot), ["Lock jobs/nightly: a | b", "Lock leader: 10.0.0.7 | "])
      const holder = snapshot.queues[0]!.contenders[0]!
      assert.deepStrictEqual([holder.key, holder.token, holder.mode, holder.permits], [
        lock.key,
        lock.token,
        "Write",
        1
      ])
      const known = yield* on(kv)(DistLock.holder("jobs/nightly"))
      assert.deepStrictEqual(Option.some(holder.lease), Option.map(known, ({ lease }) => lease))
      assert.deepStrictEqual(snapshot.queues[0]!.permits, Option.none())
      assert.deepStrictEqual(snapshot.staleSince, Option.none())
      assert.isAtLeast(Number(snapshot.revision), Number(holder.token))
    }
  ),

  test("an inventory of a prefix has only the queues under it", function*(kv) {
    yield* on(kv)(DistLock.acquire("jobs/nightly", { description: "a" }))
    yield* on(kv)(DistLock.acquire("other", { description: "b" }))
    assert.deepStrictEqual(shown(yield* read(kv, KeyRange.prefix("jobs"))), ["Lock jobs/nightly: a | "])
  }),

  test("an inventory shows readers before the first writer as holders of a read-write lock", function*(kv) {
    const rw = (acquire: typeof DistRwLock.acquireRead, description: string) =>
      on(kv)(acquire("index", { description, ttl: `${10 + description.charCodeAt(0)} seconds` }))
    yield* rw(DistRwLock.acquireRead, "a")
    yield* rw(DistRwLock.acquireRead, "b")
    yield* enter(kv, 3, rw(DistRwLock.acquireWrite, "c"))
    yield* enter(kv, 4, rw(DistRwLock.acquireRead, "d"))
    const snapshot = yield* read(kv)
    assert.deepStrictEqual(shown(snapshot), ["RwLock index: a b | c d"])
    assert.deepStrictEqual(snapshot.queues[0]!.contenders.map(({ mode }) => mode), ["Read", "Read", "Write", "Read"])
  }),

  test("an inventory shows the contenders of a semaphore that its permits admit as holders", function*(kv) {
    const semaphore = yield* on(kv)(DistSemaphore.make("load", { permits: 3 }))
    const acquire = (permits: number, description: string) =>
      on(kv)(semaphore.acquire(permits, { description, ttl: `${10 + description.charCodeAt(0)} seconds` }))
    yield* acquire(2, "a")
    yield* enter(kv, 3, acquire(2, "b"))
    yield* enter(kv, 4, acquire(1, "c"))
    const snapshot = yield* read(kv)
    assert.deepStrictEqual(shown(snapshot), ["Semaphore load: a | b c"])
    assert.deepStrictEqual(snapshot.queues[0]!.permits, Option.some(3))
    assert.deepStrictEqual(snapshot.queues[0]!.contenders.map(({ permits }) => permits), [2, 2, 1])
    yield* semaphore.resize(4)
    assert.deepStrictEqual(shown(yield* read(kv)), ["Semaphore load: a b | c"])
  }),

  test("an inventory shows a key without a lease that blocks a lock, and no value of it", function*(kv) {
    yield* kv.put("nightly/config", "s3cr3t")
    yield* enter(kv, 2, on(kv)(DistLock.acquire("nightly", { description: "a" })))
    const snapshot = yield* read(kv)
    const [blocker, waiter] = snapshot.queues[0]!.contenders
    assert.deepStrictEqual([blocker!.key, blocker!.isHolder, blocker!.lease], ["nightly/config", true, Option.none()])
    assert.deepStrictEqual([waiter!.description, waiter!.isHolder], ["a", false])
    assert.notInclude(JSON.stringify(snapshot), "s3cr3t")
  }),

  test("an inventory has the other keys with a lease, and none without", function*(kv) {
    yield* kv.put("config/limit", "10")
    yield* kv.put("name/abc", "10")
    yield* on(kv)(Members.join("workers", { id: "ada", schema: Schema.String, value: "idle" }))
    const { id } = yield* on(kv)(Lease.grant({ ttl: "60 seconds" }))
    yield* kv.put("temporary", "1", { lease: id })
    const { leasedKeys, queues } = yield* read(kv)
    assert.deepStrictEqual(leasedKeys.map(({ key }) => key), ["temporary", "workers/ada"])
    assert.deepStrictEqual(queues, [])
  }),

  test("an inventory is read at one revision, page by page, and without the values of other keys", function*(kv) {
    const keys = Array.from({ length: 600 }, (_, i) => `data/${`${i}`.padStart(4, "0")}`)
    for (let i = 0; i < keys.length; i += 100) {
      yield* kv.txn({ then: keys.slice(i, i + 100).map((key) => Op.put(key, "x")) })
    }
    yield* on(kv)(DistLock.acquire("jobs/nightly", { description: "a" }))
    assert.deepStrictEqual(shown(yield* read(kv)), ["Lock jobs/nightly: a | "])
  }),

  test("a view of an inventory shows a take-over: the first waiter becomes the holder", function*(kv) {
    const other = yield* newClient
    const view = yield* on(kv)(Inventory.view())
    const scope = yield* Scope.make()
    yield* on(other)(DistLock.acquire("nightly", { description: "a" })).pipe(Scope.provide(scope))
    yield* enter(kv, 2, on(kv)(DistLock.acquire("nightly", { description: "b" })))
    const becomes = (expected: string) =>
      promptly(
        expected,
        view.changes.pipe(Stream.filter((each) => shown(each).join() === expected), Stream.runHead)
      )
    yield* becomes("Lock nightly: a | b")
    yield* Scope.close(scope, Exit.void)
    yield* becomes("Lock nightly: b | ")
    assert.deepStrictEqual(shown(yield* view.snapshot), ["Lock nightly: b | "])
  }),

  test("an inventory is encoded as JSON without values of other keys", function*(kv) {
    const lock = yield* on(kv)(DistLock.acquire("nightly", { description: "a" }))
    const { id } = yield* on(kv)(Lease.grant({ ttl: "60 seconds" }))
    yield* kv.put("temporary", "s3cr3t", { lease: id })
    const text = JSON.stringify(yield* read(kv))
    assert.notInclude(text, "s3cr3t")
    const { leasedKeys, queues, staleSince } = JSON.parse(text)
    const { key, lease, token } = queues[0].contenders[0]
    assert.deepStrictEqual([key, `nightly/${lease}`, token], [lock.key, lock.key, `${lock.token}`])
    assert.deepStrictEqual([queues[0].permits, staleSince, leasedKeys[0].key], [null, null, "temporary"])
  })
])
