/**
 * Temporary keys: there while a scope is open, and not after.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { on, soon } from "./locking.ts"

/** A temporary key until it is closed. */
const open = Effect.fnUntraced(function*(kv: Kv.Kv, key: string, options?: TempKey.Options) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const tempKey = yield* promptly("the key", Scope.provide(kv.tempKey(key, options), scope))
  return { tempKey, close: Scope.close(scope, Exit.void) }
})

const isThere = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.isSome)

const leaseOf = (kv: Kv.Kv, key: string) => Effect.map(entryOf(kv, key), (entry) => Option.getOrThrow(entry.lease))

export const cases = chapter("temporary keys", [
  test("a temporary key is there when it is made, and gone at once when its scope closes", function*(kv) {
    const { close, tempKey } = yield* open(kv, "workers/a", { value: "me" })
    assert.strictEqual(tempKey.key, "workers/a")
    assert.strictEqual(yield* textOf(kv, "workers/a"), "me")
    assert.isTrue(Option.isSome((yield* entryOf(kv, "workers/a")).lease))
    yield* close
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    assert.strictEqual((yield* Effect.flip(tempKey.lost))._tag, "TempKeyLost")
  }),

  test("without a value it has one that no other has", function*(kv) {
    for (const key of ["a", "b", "c"]) yield* open(kv, key)
    const values = yield* Effect.forEach(["a", "b", "c"], (key) => textOf(kv, key))
    assert.strictEqual(new Set(values).size, 3)
  }),

  test("how many copies of a program run is the count of their keys", function*(kv) {
    const copies = [yield* open(kv, "copies/1"), yield* open(yield* newClient, "copies/2")]
    assert.strictEqual(yield* kv.count(KeyRange.prefix("copies/")), 2)
    yield* copies[0]!.close
    assert.strictEqual(yield* kv.count(KeyRange.prefix("copies/")), 1)
  }),

  test("withTempKey runs an effect while the key is there", function*(kv) {
    const seen = yield* on(kv)(TempKey.withTempKey(isThere(kv, "t"), "t"))
    assert.isTrue(seen)
    assert.isFalse(yield* isThere(kv, "t"))
    assert.strictEqual(yield* on(kv)(Effect.flip(Effect.fail("own").pipe(TempKey.withTempKey("t")))), "own")
    assert.isFalse(yield* isThere(kv, "t"))
  }),

  test("what cannot be a key or a value is an InvalidRequest", function*(kv) {
    assert.strictEqual((yield* reasonOf(Effect.scoped(kv.tempKey(""))))._tag, "InvalidRequest")
    assert.strictEqual((yield* reasonOf(Effect.scoped(kv.tempKey("t", { value: "\ud800" }))))._tag, "InvalidRequest")
    assert.strictEqual((yield* reasonOf(Effect.scoped(kv.tempKey("t", { ttl: 0 }))))._tag, "InvalidRequest")
  }),

  waitingTest("it outlives its time to live as long as its scope is open", function*(kv) {
    const store = yield* Store
    const { close } = yield* open(kv, "temp/kept", { ttl: "2 seconds" })
    const { createRevision } = yield* entryOf(kv, "temp/kept")
    yield* store.passTime("5 seconds")
    assert.strictEqual((yield* entryOf(kv, "temp/kept")).createRevision, createRevision)
    yield* close
  }),

  waitingTest("it is made again when its lease is revoked from outside, and when it is deleted", function*(kv) {
    const { close } = yield* open(kv, "temp/again", { value: "me" })
    const lease = yield* leaseOf(kv, "temp/again")
    yield* kv.backend.leaseRevoke(lease)
    yield* waitUntil("it is there again", isThere(kv, "temp/again"))
    assert.notStrictEqual(yield* leaseOf(kv, "temp/again"), lease)
    yield* kv.delete("temp/again")
    yield* waitUntil("it is there again", isThere(kv, "temp/again"))
    assert.strictEqual(yield* textOf(kv, "temp/again"), "me")
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/again"))
  }),

  waitingTest("it is made again after an outage in which its lease ended", function*(kv) {
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const { close } = yield* open(client, "temp/outage", { ttl: "2 seconds" })
    cut.before = () => faults.unavailable
    yield* waitUntil("the store ends it", Effect.map(isThere(kv, "temp/outage"), (there) => !there))
    yield* store.passTime("1 second")
    cut.before = () => Effect.void
    yield* waitUntil("it is there again", isThere(kv, "temp/outage"))
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/outage"))
  }),

  waitingTest("by option it is not made again, and whoever stands on it is told", function*(kv) {
    const { tempKey } = yield* open(kv, "temp/fail", { onLost: "fail" })
    const waiting = yield* Effect.forkScoped(Effect.flip(tempKey.lost))
    yield* kv.backend.leaseRevoke(yield* leaseOf(kv, "temp/fail"))
    yield* waitUntil("the loss is told", Effect.sync(() => waiting.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(waiting)).key, "temp/fail")
    const running = yield* Effect.forkScoped(
      on(kv)(Effect.flip(TempKey.withTempKey(Effect.never, "temp/with", { onLost: "fail" })))
    )
    yield* soon("it is there", isThere(kv, "temp/with"))
    yield* kv.delete("temp/with")
    yield* waitUntil("the loss is told", Effect.sync(() => running.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(running))._tag, "TempKeyLost")
  }),

  test("what somebody else has written since is not deleted", function*(kv) {
    const { close } = yield* open(kv, "t", { value: "me" })
    yield* kv.put("t", "somebody else")
    yield* close
    assert.strictEqual(yield* textOf(kv, "t"), "somebody else")
    const first = yield* open(kv, "u", { value: "first" })
    const second = yield* open(kv, "u", { value: "second" })
    yield* first.close
    assert.strictEqual(yield* textOf(kv, "u"), "second")
    yield* second.close
    assert.isFalse(yield* isThere(kv, "u"))
  }),

  waitingTest("one whose making was not answered, or was interrupted, does not stay", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const isPut = (call: faults.Call) => call.op?._tag === "Put"
    const keep = yield* open(client, "temp/keeps-the-session")
    seen.after = (call) => isPut(call) ? faults.lostAnswer : Effect.void
    assert.strictEqual((yield* reasonOf(Effect.scoped(client.tempKey("temp/lost"))))._tag, "Unavailable")
    yield* soon("it is gone", Effect.map(isThere(kv, "temp/lost"), (there) => !there))
    const late = seen.calls.findLast(isPut)!
    yield* kv.backend.execute(late.op!)
    yield* soon("it is gone again", Effect.map(isThere(kv, "temp/lost"), (there) => !there))
    const barrier = yield* faults.barrier
    seen.after = (call) => isPut(call) ? barrier.stop : Effect.void
    const fiber = yield* Effect.forkScoped(Effect.scoped(client.tempKey("temp/interrupted")))
    yield* barrier.reached
    const interrupting = yield* Effect.forkScoped(Fiber.interrupt(fiber))
    yield* Effect.yieldNow
    yield* barrier.letGo
    yield* Fiber.join(interrupting)
    assert.isFalse(yield* isThere(kv, "temp/interrupted"))
    seen.after = () => Effect.void
    const again = yield* open(client, "temp/lost", { value: "again" })
    const { createRevision } = yield* entryOf(kv, "temp/lost")
    yield* Effect.flatMap(Store, (store) => store.passTime("1 second"))
    assert.strictEqual(
      (yield* entryOf(kv, "temp/lost")).createRevision,
      createRevision,
      "it is not taken for the other"
    )
    yield* again.close
    yield* keep.close
  }),

  waitingTest("it is gone within its time to live when its client dies without a word", function*(kv) {
    const store = yield* Store
    const dead = faults.make()
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(faults.newClientWith(dead), scope)
    yield* Scope.provide(client.tempKey("temp/dead", { ttl: "2 seconds" }), scope)
    dead.before = () => faults.unavailable
    yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    assert.isTrue(yield* isThere(kv, "temp/dead"))
    yield* store.passTime("4 seconds")
    assert.isFalse(yield* isThere(kv, "temp/dead"))
  }),

  test("in a namespace it is a key of that namespace", function*(kv) {
    const { close } = yield* open(Kv.prefixed(kv, "app/"), "t", { value: "me" })
    assert.strictEqual(yield* textOf(kv, "app/t"), "me")
    yield* close
    assert.isFalse(yield* isThere(kv, "app/t"))
  })
])
