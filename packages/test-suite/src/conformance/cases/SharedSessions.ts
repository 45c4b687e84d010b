/**
 * Sessions that the locks and temporary keys of a client share.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { hold, on } from "./locking.ts"
import { countOf, leaseIsGone } from "./sessionChecks.ts"

export const cases = chapter("sessions", [
  test("locks and temporary keys of one client share one session for each time to live", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const first = yield* hold(client, "a")
    yield* hold(client, "b")
    yield* on(client)(TempKey.make("t"))
    yield* hold(Kv.prefixed(client, "p/"), "c")
    assert.strictEqual(countOf(seen, "leaseGrant"), 1)
    const other = yield* hold(client, "d", { ttl: "20 seconds" })
    assert.strictEqual(countOf(seen, "leaseGrant"), 2)
    const leaseOf = (key: string) => Effect.map(entryOf(kv, key), (entry) => Option.getOrThrow(entry.lease))
    assert.strictEqual(yield* leaseOf("t"), yield* leaseOf(first.lock.key))
    assert.notStrictEqual(yield* leaseOf("t"), yield* leaseOf(other.lock.key))
  }),

  test("concurrent first users of a session wait for one grant", function*() {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const barrier = yield* faults.barrier
    seen.before = (call) => call.kind === "leaseGrant" ? barrier.stop : Effect.void
    const fibers = yield* Effect.forEach(
      ["a", "b", "c"],
      (name) => Effect.forkScoped(on(client)(DistLock.withDistLock(Effect.void, name)))
    )
    yield* barrier.reached
    yield* Fiber.interrupt(fibers[0]!)
    yield* barrier.letGo
    yield* Fiber.joinAll(fibers.slice(1))
    assert.strictEqual(countOf(seen, "leaseGrant"), 1)
  }),

  test("an acquisition that is interrupted as its response arrives does not end the session of others", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "keeps")
    const barrier = yield* faults.barrier
    seen.after = (call) => faults.isEntry(call) ? barrier.stop : Effect.void
    const fiber = yield* Effect.forkScoped(on(client)(DistLock.withDistLock(Effect.void, "l")))
    yield* barrier.reached
    const interrupting = yield* Effect.forkScoped(Fiber.interrupt(fiber))
    yield* Effect.yieldNow
    yield* barrier.letGo
    yield* Fiber.join(interrupting)
    yield* hold(client, "l")
    assert.strictEqual(countOf(seen, "leaseGrant"), 1)
    assert.strictEqual(yield* kv.count(KeyRange.prefix("l/")), 1)
  }),

  waitingTest("a shared session ends some time after its last user, and the next user opens another", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const once = on(client)(DistLock.withDistLock(Effect.void, "session/idle"))
    yield* once
    yield* once
    assert.strictEqual(countOf(seen, "leaseGrant"), 1)
    yield* store.passTime("700 millis")
    yield* once
    assert.strictEqual(countOf(seen, "leaseGrant"), 1)
    yield* store.passTime("700 millis")
    assert.strictEqual(countOf(seen, "leaseRevoke"), 0, "the delay counts from the last user")
    yield* waitUntil("the session ends", leaseIsGone(kv, seen.leases[0]!))
    yield* once
    assert.strictEqual(countOf(seen, "leaseGrant"), 2)
  }),

  test("a failed grant is not cached", function*() {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    seen.before = (call) => call.kind === "leaseGrant" ? faults.unavailable : Effect.void
    const locked = on(client)(DistLock.withDistLock(Effect.succeed(1), "l"))
    assert.strictEqual((yield* Effect.flip(locked))._tag, "KvError")
    seen.before = () => Effect.void
    assert.strictEqual(yield* locked, 1)
  }),

  waitingTest("a lost session is replaced for later users", function*() {
    const store = yield* Store
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    seen.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    const lost = yield* hold(client, "session/replaced", { ttl: "2 seconds" })
    yield* store.passTime("2100 millis")
    assert.isFalse(yield* lost.lock.isHeld)
    seen.before = () => Effect.void
    const grants = countOf(seen, "leaseGrant")
    const names = ["a", "b", "c"].map((name) => `session/replaced/${name}`)
    const held = yield* Effect.forEach(names, (name) => hold(client, name, { ttl: "2 seconds" }), {
      concurrency: "unbounded"
    })
    for (const { lock } of held) assert.isTrue(yield* lock.isHeld)
    assert.strictEqual(countOf(seen, "leaseGrant"), grants + 1, "one grant for all users")
    yield* lost.release
  })
])
