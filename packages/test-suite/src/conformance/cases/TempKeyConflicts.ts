/**
 * Temporary keys whose name another client uses: a temporary key never overwrites a key of another client.
 */
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { on, soon } from "./locking.ts"
import { isThere, leaseOf, open } from "./tempKeyChecks.ts"

export const cases = chapter("temporary keys", [
  test("a temporary key that another client has overwritten is not deleted", function*(kv) {
    const { close } = yield* open(kv, "t", { value: "me" })
    yield* (yield* newClient).put("t", "another client")
    yield* close
    assert.strictEqual(yield* textOf(kv, "t"), "another client")
  }),

  test("a temporary key does not replace an existing key: it fails with TempKeyTaken and its lease", function*(kv) {
    const other = yield* newClient
    const taken = (options?: TempKey.Options) => Effect.flip(Effect.scoped(on(kv)(TempKey.make("t", options))))
    yield* other.put("t", "permanent")
    assert.deepStrictEqual(yield* taken(), new TempKey.TempKeyTaken({ key: "t", lease: Option.none() }))
    assert.strictEqual(yield* textOf(kv, "t"), "permanent")
    yield* other.delete("t")
    const theirs = yield* open(other, "t", { value: "theirs" })
    const lease = yield* leaseOf(kv, "t")
    assert.deepStrictEqual(yield* taken(), new TempKey.TempKeyTaken({ key: "t", lease: Option.some(lease) }))
    assert.deepStrictEqual(yield* taken({ onLost: "fail" }), yield* taken())
    assert.strictEqual(yield* textOf(kv, "t"), "theirs")
    yield* theirs.close
    yield* open(kv, "t", { value: "ours" })
    assert.strictEqual(yield* textOf(other, "t"), "ours")
  }),

  test("two temporary keys of one name exclude each other in one client too", function*(kv) {
    const first = yield* open(kv, "t", { value: "first" })
    assert.strictEqual((yield* Effect.flip(Effect.scoped(on(kv)(TempKey.make("t")))))._tag, "TempKeyTaken")
    assert.strictEqual(yield* textOf(kv, "t"), "first")
    yield* first.close
    for (let i = 0; i < 5; i++) yield* (yield* open(kv, "t", { value: `${i}` })).close
    assert.isFalse(yield* isThere(kv, "t"))
  }),

  waitingTest("by option the creation of a temporary key waits until another client's key is gone", function*(kv) {
    const other = yield* newClient
    const theirs = yield* open(other, "temp/wait", { value: "theirs" })
    const waiting = yield* Effect.forkScoped(open(kv, "temp/wait", { value: "ours", onTaken: "wait" }))
    yield* Effect.flatMap(Store, (store) => store.passTime("1 second"))
    assert.strictEqual(yield* textOf(other, "temp/wait"), "theirs")
    yield* theirs.close
    const { tempKey } = yield* promptly("the key", Fiber.join(waiting))
    assert.strictEqual(yield* textOf(other, "temp/wait"), "ours")
    assert.deepStrictEqual(yield* tempKey.lease, Option.some(yield* leaseOf(other, "temp/wait")))
  }),

  waitingTest("by option a restarted process waits for the lease of its crashed predecessor", function*(kv) {
    const crashed = faults.make()
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(faults.newClientWith(crashed), scope)
    yield* Scope.provide(on(client)(TempKey.make("temp/restart", { value: "1", ttl: "2 seconds" })), scope)
    crashed.before = () => faults.unavailable
    yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    const again = yield* Effect.forkScoped(open(kv, "temp/restart", { value: "2", onTaken: "wait" }))
    yield* waitUntil("the key is re-created", Effect.map(textOf(kv, "temp/restart"), (text) => text === "2"))
    yield* promptly("the key", Fiber.join(again))
  }),

  waitingTest("a temporary key is not re-created over a key that another client has created meanwhile", function*(kv) {
    const other = yield* newClient
    for (const how of ["lease", "delete", "put"]) {
      const key = `temp/taken/${how}`
      const { close, tempKey } = yield* open(kv, key, { value: "ours" })
      const theirs = how === "put" ? Op.put(key, "theirs") : Op.txn({ then: [Op.put(key, "theirs")] })
      if (how === "lease") yield* backendOf(other).leaseRevoke(yield* leaseOf(other, key))
      if (how === "delete") yield* other.delete(key)
      yield* backendOf(other).execute(theirs)
      const lost = yield* Effect.forkScoped(Effect.flip(tempKey.lost))
      yield* waitUntil("the owner is notified", Effect.sync(() => lost.pollUnsafe() !== undefined))
      const error = yield* Fiber.join(lost)
      assert.deepStrictEqual(error, new TempKey.TempKeyTaken({ key, lease: Option.none(), outcome: "Unknown" }))
      assert.isFalse(error.isRetryable, "the work that relied on the key may have written")
      assert.deepStrictEqual(yield* tempKey.lease, Option.none())
      assert.strictEqual((yield* Effect.flip(tempKey.set("ours again")))._tag, "TempKeyTaken")
      yield* close
      assert.strictEqual(yield* textOf(other, key), "theirs")
    }
  }),

  waitingTest("by option a temporary key that was taken is re-created when the other key is gone", function*(kv) {
    const other = yield* newClient
    const { close, tempKey } = yield* open(kv, "temp/back", { value: "ours", onTaken: "wait" })
    const seen: Array<string> = []
    yield* Effect.forkScoped(Stream.runForEach(tempKey.status, (now) => Effect.sync(() => seen.push(now._tag))))
    yield* soon("it is held", Effect.sync(() => seen.length === 1))
    yield* other.put("temp/back", "theirs")
    yield* soon("it is taken", Effect.sync(() => seen.length === 2))
    assert.deepStrictEqual(yield* tempKey.lease, Option.none())
    assert.strictEqual(yield* textOf(other, "temp/back"), "theirs")
    yield* other.delete("temp/back")
    yield* waitUntil("the key is re-created", Effect.sync(() => seen.length === 3))
    assert.strictEqual(yield* textOf(other, "temp/back"), "ours")
    assert.deepStrictEqual(seen, ["Held", "Taken", "Held"])
    yield* close
    assert.isFalse(yield* isThere(other, "temp/back"))
  }),

  waitingTest("a create whose response was lost is not applied later over another client's key", function*(other) {
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    yield* open(client, "temp/keeps-its-session")
    cut.before = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    assert.strictEqual((yield* reasonOf(Effect.scoped(on(client)(TempKey.make("temp/late")))))._tag, "Unavailable")
    cut.before = () => Effect.void
    yield* other.put("temp/late", "theirs")
    const late = cut.calls.findLast(faults.isEntry)!
    yield* backendOf(other).execute(late.op!)
    assert.strictEqual(yield* textOf(other, "temp/late"), "theirs")
  }),

  test("set changes nothing if the key now belongs to another client or is gone", function*(kv) {
    const other = yield* newClient
    const taken = yield* open(kv, "t", { value: "ours" })
    yield* other.put("t", "theirs")
    assert.strictEqual((yield* Effect.flip(taken.tempKey.set("ours again")))._tag, "TempKeyTaken")
    assert.strictEqual(yield* textOf(other, "t"), "theirs")
    const gone = yield* open(kv, "u", { value: "ours", onLost: "fail" })
    yield* other.delete("u")
    assert.strictEqual((yield* Effect.flip(gone.tempKey.set("ours again")))._tag, "TempKeyLost")
    assert.isFalse(yield* isThere(other, "u"))
  })
])
