/**
 * Slots: at most N holders of the indices 0 to N - 1, no index twice at a time, and a cool-down between two holders.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Slot from "@effect-kv/core/Slot"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, newClient, promptly, rejects, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, soon } from "./locking.ts"

/** Takes a slot that can be released. */
const take = Effect.fnUntraced(function*(kv: Kv.Kv, name: string, options: Slot.Options) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const slot = yield* promptly("a slot", Scope.provide(on(kv)(Slot.acquire(name, options)), scope))
  return { slot, index: slot.index, release: Scope.close(scope, Exit.void) }
})

const isTaken = (kv: Kv.Kv, name: string, size: number) =>
  Effect.scoped(on(kv)(Slot.acquire(name, { size }))).pipe(
    Effect.as(false),
    Effect.catchTag("SlotsTaken", () => Effect.succeed(true))
  )

const isThere = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.isSome)

/** A client that can be cut off from the store. */
const cuttable = Effect.flatMap(newClient, (kv) => KvFaults.make(backendOf(kv), { deadline: "1 second" }))

const isEnded = (fiber: Fiber.Fiber<unknown, unknown>) => Effect.sync(() => fiber.pollUnsafe() !== undefined)

export const cases = chapter("slots", [
  test("a slot is the lowest free index, held by a key on a lease, until its scope closes", function*(kv) {
    const other = yield* newClient
    const slots = [
      yield* take(kv, "ids", { size: 3, description: "first" }),
      yield* take(other, "ids", { size: 3 }),
      yield* take(kv, "ids", { size: 3 })
    ]
    assert.deepStrictEqual(slots.map(({ index }) => index), [0, 1, 2])
    const { slot } = slots[0]!
    const entry = yield* entryOf(kv, "ids/slots/0")
    assert.deepStrictEqual(
      [slot.name, slot.key, slot.token, entry.lossyText],
      ["ids", "ids/slots/0", entry.createRevision, "first"]
    )
    assert.isTrue(Option.isSome(entry.lease))
    assert.isTrue(slot.isHeldUnsafe() && (yield* slot.isHeld))
    yield* slots[1]!.release
    yield* slots[0]!.release
    failedWith(yield* Effect.exit(slot.lost), "LockLost")
    assert.isFalse(yield* slot.isHeld)
    assert.strictEqual((yield* take(other, "ids", { size: 3 })).index, 0)
    assert.strictEqual(yield* kv.count(KeyRange.all), 2)
  }),

  test("if all slots are taken the attempt fails with SlotsTaken and leaves nothing", function*(kv) {
    yield* take(kv, "ids", { size: 2 })
    yield* take(kv, "ids", { size: 2 })
    for (const client of [kv, yield* newClient]) {
      const error = yield* Effect.flip(Effect.scoped(on(client)(Slot.acquire("ids", { size: 2 }))))
      assert.strictEqual(error._tag, "SlotsTaken")
      assert.deepStrictEqual([error.isRetryable, error.name], [true, "@effect-kv/core/Slot/SlotsTaken"])
      assert.match(error.message, /^all 2 slots of "ids" are taken or cooling down/)
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 2)
    assert.strictEqual((yield* take(kv, "ids", { size: 3 })).index, 2)
  }),

  test("a slot is waited for until it is released, without requests in the meantime", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const holder = yield* take(kv, "ids", { size: 1 })
    const waiting = yield* Effect.forkScoped(take(client, "ids", { size: 1, acquireTimeout: "1 minute" }))
    yield* soon("it waits", Effect.sync(() => seen.watches > 0))
    const before = seen.calls.length
    for (let i = 0; i < 5; i++) yield* kv.put("busy", `${i}`)
    assert.strictEqual(seen.calls.length, before)
    yield* holder.release
    assert.strictEqual((yield* promptly("the slot", Fiber.join(waiting))).index, 0)
  }),

  test(
    "a slot that is released wakes one waiter, so that all waiters together cost requests in their number",
    function*(kv) {
      const seen = faults.make()
      const clients = [
        yield* faults.newClientWith(seen),
        yield* faults.newClientWith(seen),
        yield* faults.newClientWith(seen)
      ]
      const drain = Effect.fnUntraced(function*(name: string, waiters: number) {
        const holder = yield* take(kv, name, { size: 1 })
        seen.calls.length = 0
        const waiting = yield* Effect.forEach(
          Array.from({ length: waiters }, (_, i) => clients[i % 3]!),
          (client) =>
            Effect.forkScoped(
              on(client)(Slot.use(name, ({ token }) => Effect.succeed(token), { size: 1, acquireTimeout: "1 minute" }))
            )
        )
        yield* soon(
          "all wait",
          Effect.map(kv.count(KeyRange.prefix(`${name}/slots/queue/`)), (count) => count === waiters)
        )
        yield* soon("nothing is in flight", Effect.sync(() => seen.pending === 0))
        const before = seen.calls.length
        yield* holder.release
        const tokens = yield* promptly("all slots", Effect.forEach(waiting, Fiber.join))
        assert.strictEqual(new Set(tokens).size, waiters)
        return { all: seen.calls.length, ofReleases: seen.calls.length - before }
      })
      const many = yield* drain("many", 16)
      // Of an admission: the waiter looks whether it is first, and reads, takes and releases the slot.
      assert.isAtMost(many.ofReleases, 7 * 16, `${many.ofReleases} requests`)
      assert.isAtMost(many.all, 12 * 16, `${many.all} requests`)
      yield* soon("the queue is empty", Effect.map(kv.count(KeyRange.all), (count) => count === 0))
    }
  ),

  test("those who wait for a slot get it in the order in which they came", function*(kv) {
    const holder = yield* take(kv, "ids", { size: 1 })
    const order: Array<number> = []
    const waiting = []
    for (const i of [0, 1, 2, 3]) {
      const client = i % 2 === 0 ? kv : yield* newClient
      waiting.push(
        yield* Effect.forkScoped(
          on(client)(Slot.use("ids", () => Effect.sync(() => order.push(i)), { size: 1, acquireTimeout: "1 minute" }))
        )
      )
      yield* soon("it waits", Effect.map(kv.count(KeyRange.prefix("ids/slots/queue/")), (count) => count === i + 1))
    }
    yield* holder.release
    yield* promptly("all slots", Effect.forEach(waiting, Fiber.join))
    assert.deepStrictEqual(order, [0, 1, 2, 3])
  }),

  test("concurrent fibers and clients get different indices, and one each", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const slots = yield* Effect.forEach(
      Array.from({ length: 12 }, (_, i) => clients[i % 3]!),
      (client) => take(client, "ids", { size: 12 }),
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(
      slots.map(({ index }) => index).toSorted((a, b) => a - b),
      Array.from({ length: 12 }, (_, i) => i)
    )
    assert.isTrue(yield* isTaken(kv, "ids", 12))
  }),

  test("slots whose names extend another's, other keys below it, and namespaces do not interfere", function*(kv) {
    yield* take(kv, "ids", { size: 3 })
    assert.strictEqual((yield* take(kv, "ids2", { size: 1 })).index, 0)
    assert.strictEqual((yield* take(kv, "ids/2", { size: 1 })).index, 0)
    assert.strictEqual((yield* take(Kv.prefixed(kv, "tenant/"), "ids", { size: 1 })).index, 0)
    yield* kv.put("ids/slots/01", "not an index")
    assert.strictEqual((yield* take(kv, "ids", { size: 3 })).index, 1)
    assert.strictEqual((yield* take(kv, "ids", { size: 3 })).index, 2)
  }),

  test("invalid names, sizes and durations of slots are an InvalidRequest", function*(kv) {
    const attempt = (name: string, options: Slot.Options) => Effect.scoped(on(kv)(Slot.acquire(name, options)))
    yield* rejects(kv, "InvalidRequest", attempt("", { size: 1 }))
    for (const size of [0, -1, 1.5, Number.NaN, 100_001]) {
      yield* rejects(kv, "InvalidRequest", attempt("ids", { size }))
    }
    for (const coolDown of [Number.NaN, -1, "Infinity"] as const) {
      yield* rejects(kv, "InvalidRequest", attempt("ids", { size: 1, coolDown }))
    }
    yield* rejects(kv, "InvalidRequest", attempt("ids", { size: 1, acquireTimeout: -1 }))
    yield* rejects(kv, "InvalidRequest", attempt("ids", { size: 1, ttl: 0 }))
  }),

  test("the writes of work under a slot are fenced, in every fiber and namespace", function*(kv) {
    const work = ({ key }: Slot.Slot) =>
      Effect.gen(function*() {
        yield* kv.put("inside", "1")
        yield* kv.delete(key)
        return yield* Effect.all([
          Effect.exit(kv.put("late", "1")),
          Effect.exit(Kv.prefixed(kv, "tenant/").put("late", "1")),
          Effect.flatMap(Effect.forkChild(Effect.exit(kv.put("late", "1"))), Fiber.join)
        ], { concurrency: 1 })
      }).pipe(Effect.uninterruptible)
    const exit = yield* Effect.exit(on(kv)(Slot.use("ids", work, { size: 1 })))
    assert.strictEqual(failedWith(exit, "LockLost").outcome, "Unknown")
    assert.deepStrictEqual(
      (yield* kv.range(KeyRange.all)).entries.map(({ key }) => key),
      ["inside"]
    )
    assert.strictEqual(yield* on(kv)(Slot.use("ids", ({ index }) => Effect.succeed(index), { size: 1 })), 0)
  }),

  test("work under a slot is interrupted when its key is deleted, and keeps its own failure", function*(kv) {
    let finalized = false
    const running = yield* Effect.forkScoped(
      on(kv)(Slot.use(
        "ids",
        () => Effect.never.pipe(Effect.ensuring(Effect.sync(() => finalized = true))),
        { size: 1 }
      ))
    )
    yield* soon("it runs", isThere(kv, "ids/slots/0"))
    yield* kv.delete("ids/slots/0")
    failedWith(yield* promptly("it is interrupted", Fiber.await(running)), "LockLost")
    assert.isTrue(finalized)
    const own = yield* Effect.flip(on(kv)(Slot.use("ids", () => Effect.fail("own"), { size: 1 })))
    assert.strictEqual(own, "own")
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("an acquisition whose response is lost or that is interrupted leaves no slot taken", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    lossy.after = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    const lost = yield* Effect.exit(Effect.scoped(on(client)(Slot.acquire("ids", { size: 1 }))))
    assert.isTrue(KvError.isKvError(failedWith(lost, "KvError")))
    yield* soon("no key is left", Effect.map(isThere(kv, "ids/slots/0"), (there) => !there))
    const { letGo, reached, stop } = yield* faults.barrier
    lossy.after = (call) => faults.isEntry(call) ? stop : Effect.void
    const interrupted = yield* Effect.forkScoped(Effect.scoped(on(client)(Slot.acquire("ids", { size: 1 }))))
    yield* promptly("the request is executed", reached)
    const interruption = yield* Effect.forkScoped(Fiber.interrupt(interrupted))
    yield* letGo
    yield* promptly("the interruption", Fiber.join(interruption))
    lossy.after = () => Effect.void
    yield* soon("no key is left", Effect.map(isThere(kv, "ids/slots/0"), (there) => !there))
    assert.strictEqual((yield* take(client, "ids", { size: 1 })).index, 0)
  }),

  test("an index that cools down is not taken by a client that read before that it is free", function*(kv) {
    const slow = faults.make()
    const client = yield* faults.newClientWith(slow)
    const { letGo, reached, stop } = yield* faults.barrier
    slow.before = (call) => faults.isEntry(call) ? stop : Effect.void
    const second = yield* Effect.forkScoped(take(client, "ids", { size: 2 }))
    yield* promptly("it has read that all are free", reached)
    const first = yield* take(kv, "ids", { size: 2, coolDown: "1 minute" })
    assert.strictEqual(first.index, 0)
    yield* first.release
    yield* letGo
    assert.strictEqual((yield* promptly("the other", Fiber.join(second))).index, 1)
  }),

  waitingTest(
    "a waiter for a slot whose place in the queue is deleted, or who gives up, delays no other",
    function*(kv) {
      const name = "slots/queue"
      const holder = yield* take(kv, name, { size: 1 })
      const queued = Effect.map(
        kv.range(KeyRange.prefix(`${name}/slots/queue/`), { order: { by: "createRevision" } }),
        ({ entries }) => entries
      )
      const wait = Effect.fnUntraced(function*() {
        const before = (yield* queued).length
        const client = yield* newClient
        const fiber = yield* Effect.forkScoped(
          on(client)(Slot.use(name, () => Effect.succeed("used"), { size: 1, acquireTimeout: "1 minute" }))
        )
        yield* soon("it waits", Effect.map(queued, (places) => places.length > before))
        return fiber
      })
      const first = yield* wait()
      const second = yield* wait()
      const third = yield* wait()
      yield* Fiber.interrupt(second)
      const [place] = yield* queued
      yield* kv.delete(place!.key)
      yield* waitUntil(
        "it queues again",
        Effect.map(queued, (places) => places.length === 2 && places[0]!.createRevision > place!.createRevision)
      )
      yield* holder.release
      for (const fiber of [first, third]) assert.deepStrictEqual(yield* exitOf("the slot", fiber), Exit.succeed("used"))
      yield* soon("nothing is left", Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0))
    }
  ),

  waitingTest("an attempt that another client beat to the last slot leaves no lease", function*(kv) {
    const name = "slots/beaten"
    const store = yield* Store
    const held = faults.make()
    const client = yield* faults.newClientWith(held)
    const taking = yield* faults.barrier
    held.before = (call) => faults.isEntry(call) ? taking.stop : Effect.void
    // In the scope of the case, which stays open.
    const beaten = yield* Effect.forkScoped(on(client)(Slot.acquire(name, { size: 1 })))
    yield* promptly("it read that the slot is free", taking.reached)
    yield* take(kv, name, { size: 1 })
    yield* taking.letGo
    failedWith(yield* exitOf("it finds the slot taken", beaten), "SlotsTaken")
    yield* store.passTime("2 seconds")
    yield* soon("its lease is revoked", Effect.sync(() => held.calls.some(({ kind }) => kind === "leaseRevoke")))
  }),

  waitingTest("a released index is not used again before its cool-down has passed", function*(kv) {
    const store = yield* Store
    const options: Slot.Options = { size: 1, coolDown: "2 seconds" }
    const holder = yield* take(kv, "slots-cooling", options)
    yield* holder.release
    assert.isFalse(yield* isThere(kv, "slots-cooling/slots/0"), "it is not held any more")
    assert.isTrue(yield* isTaken(kv, "slots-cooling", 1))
    const waiting = yield* Effect.forkScoped(take(kv, "slots-cooling", { ...options, acquireTimeout: "1 minute" }))
    yield* store.passTime("1 second")
    assert.isUndefined(waiting.pollUnsafe())
    yield* waitUntil("the index has cooled down", isEnded(waiting))
    assert.isTrue((yield* Fiber.join(waiting)).slot.token > holder.slot.token)
  }),

  waitingTest("the index of a crashed holder cools down after its lease's time to live", function*(kv) {
    const store = yield* Store
    const client = yield* cuttable
    const { slot } = yield* take(client.kv, "slots-crash", { size: 1, ttl: "2 seconds", coolDown: "3 seconds" })
    yield* client.partition({ requests: "refused" })
    yield* waitUntil("the holder has noticed", Effect.map(slot.isHeld, (held) => !held))
    // Its holder has stopped, and the index is not free.
    yield* store.passTime("1 second")
    assert.isTrue(yield* isTaken(kv, "slots-crash", 1))
    yield* waitUntil("the index has cooled down", Effect.map(isTaken(kv, "slots-crash", 1), (taken) => !taken))
  }),

  waitingTest("work under a slot is stopped in a partition before another client gets the index", function*(kv) {
    const client = yield* cuttable
    let generating = false
    const ids = Effect.acquireRelease(
      Effect.sync(() => generating = true),
      () => Effect.sync(() => generating = false)
    )
    const running = yield* Effect.forkScoped(
      on(client.kv)(Slot.use(
        "slots-partition",
        () => Effect.scoped(Effect.andThen(ids, Effect.never)),
        { size: 1, ttl: "2 seconds" }
      ))
    )
    yield* soon("it runs", Effect.sync(() => generating))
    yield* client.partition({ requests: "refused" })
    const next = yield* Effect.forkScoped(
      on(kv)(Slot.use("slots-partition", () => Effect.sync(() => generating), {
        size: 1,
        acquireTimeout: "1 minute"
      }))
    )
    const wasGenerating = yield* exitOf("the next holder runs", next)
    assert.deepStrictEqual(wasGenerating, Exit.succeed(false))
    yield* client.heal
    failedWith(yield* exitOf("the first holder has ended", running), "LockLost")
  }),

  waitingTest("while the store is unreachable a slot makes no requests but renewals, whatever uses it", function*() {
    const store = yield* Store
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const { slot } = yield* take(client, "slots-outage", { size: 1, ttl: "3 seconds" })
    yield* soon("its key is watched", Effect.sync(() => seen.watches > 0))
    seen.before = () => faults.unavailable
    seen.calls.length = 0
    for (let i = 0; i < 1000; i++) assert.isTrue(slot.isHeldUnsafe())
    yield* waitUntil("the slot is lost", Effect.map(slot.isHeld, (held) => !held))
    yield* store.passTime("500 millis")
    assert.deepStrictEqual(seen.calls.filter(({ kind }) => kind !== "leaseKeepAlive"), [])
    assert.isAtMost(seen.calls.length, 40)
  })
])
