/**
 * Fenced writes: the store rejects them once their lock is not held.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { chapter, reasonOf, rejects, revisionOf, test } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { staleHolder, writes } from "./fences.ts"
import { contend, contenders, failedWith, hold, isFree, on, soon } from "./locking.ts"

export const cases = chapter("fencing", [
  test("writes of a stale holder, of every kind, are rejected and change nothing", function*(kv) {
    yield* kv.put("k", "1")
    for (const [i, write] of writes.entries()) {
      const { client, lock } = yield* staleHolder(kv, `l${i}`)
      const before = yield* revisionOf(kv)
      const reason = yield* rejects(kv, "LockLost", write(DistLock.fence(client, lock)))
      assert.strictEqual(reason._tag === "LockLost" && reason.token, lock.token)
      assert.strictEqual(yield* revisionOf(kv), before)
      assert.strictEqual(yield* textOf(kv, "k"), "1")
      assert.isFalse(yield* lock.isHeld, "the rejection marks the lock as lost")
    }
  }),

  test("the same writes without the fence are applied: a lock alone does not prevent them", function*(kv) {
    for (const [i, write] of writes.entries()) {
      yield* kv.put("k", "1")
      const { client } = yield* staleHolder(kv, `l${i}`)
      const before = yield* revisionOf(kv)
      yield* write(client)
      assert.isTrue((yield* revisionOf(kv)) > before)
      assert.notStrictEqual(yield* textOf(kv, "k"), "1", "the write is applied")
      yield* kv.deleteRange(KeyRange.key("k"))
    }
  }),

  test("writes of the current holder are applied, with the same responses as without the fence", function*(kv) {
    yield* Effect.gen(function*() {
      const fenced = yield* Kv.Kv
      const put = yield* fenced.put("k", "1")
      assert.strictEqual(put.revision, (yield* entryOf(kv, "k")).modRevision)
      assert.strictEqual(
        (yield* fenced.put("k", "2", { previous: true })).previous.pipe(Option.getOrThrow).lossyText,
        "1"
      )
      assert.isTrue(yield* fenced.testAndSet("k", Option.some("2"), "3"))
      assert.isFalse(yield* fenced.testAndSet("k", Option.some("2"), "4"))
      assert.isTrue(Option.isNone(yield* fenced.compareAndSet("k", 1n, "4")))
      assert.strictEqual(yield* fenced.modify("k", Option.getOrThrow), "3")
      const txn = yield* fenced.txn({
        if: [Compare.value("k", "=", "3")],
        then: [Op.put("l1", "1"), Op.txn({ then: [Op.get("k")] }), Op.delete("nothing")]
      })
      assert.isTrue(txn.succeeded)
      if (!txn.succeeded) return
      assert.strictEqual(txn.responses[1].responses.length, 1)
      assert.strictEqual(txn.responses[2].deleted, 0)
      assert.strictEqual((yield* fenced.deleteRange(KeyRange.prefix("l1"), { previous: true })).deleted, 1)
    }).pipe(DistLock.withDistLock("lock"), on(kv))
    assert.strictEqual(yield* textOf(kv, "k"), "3")
    yield* isFree(kv, "lock")
  }),

  test("a rejected write ends the body with LockLost, even if the body catches the error", function*(kv) {
    for (const caught of [false, true]) {
      const blind = faults.make()
      const client = yield* faults.newClientWith(blind)
      blind.before = (call) => call.kind === "watch" ? Effect.never : Effect.void
      const barrier = yield* faults.barrier
      const body = yield* contend(client, "l", undefined, () =>
        Effect.gen(function*() {
          yield* barrier.stop
          const fenced = yield* Kv.Kv
          yield* fenced.put("k", "stale")
        }).pipe(caught ? Effect.catch(() => Effect.never) : (effect) => effect))
      const holder = Option.getOrThrow(yield* on(kv)(DistLock.holder("l")))
      yield* kv.delete(holder.key)
      yield* barrier.letGo
      yield* soon("the end", Effect.sync(() => body.pollUnsafe() !== undefined))
      const error = failedWith(body.pollUnsafe()!, "LockLost")
      assert.strictEqual(error.token, holder.token)
      assert.strictEqual(yield* textOf(kv, "k"), undefined)
      yield* isFree(kv, "l")
    }
  }),

  test("reads under a lost lock are not rejected", function*(kv) {
    yield* kv.put("k", "1")
    const { client, lock } = yield* staleHolder(kv, "l")
    const fenced = DistLock.fence(client, lock)
    assert.deepStrictEqual(yield* fenced.get("k"), Option.some("1"))
    assert.isTrue((yield* fenced.txn({ then: [Op.get("k")] })).succeeded)
    assert.isTrue(yield* lock.isHeld)
  }),

  test("a write under several locks is rejected if any of them is lost", function*(kv) {
    for (const i of [0, 1]) {
      const blind = faults.make()
      const client = yield* faults.newClientWith(blind)
      const { lock, release } = yield* hold(client, ["a", "b"])
      const fenced = DistLock.fence(client, lock)
      yield* fenced.put("k", "1")
      blind.before = (call) => call.kind === "watch" ? Effect.never : Effect.void
      yield* kv.delete(lock.parts[i]!.key)
      yield* rejects(kv, "LockLost", fenced.put("k", "2"))
      yield* release
    }
  }),

  test("an inner lock is fenced by the outer one too, and is released even if that is lost", function*(kv) {
    const { client, lock } = yield* staleHolder(kv, "outer")
    let within = 0
    const exit = yield* Effect.gen(function*() {
      const both = yield* Kv.Kv
      within = yield* contenders(kv, "inner")
      return yield* both.put("k", "stale")
    }).pipe(DistLock.withDistLock("inner", { ttl: "1 hour" }), on(DistLock.fence(client, lock)), Effect.exit)
    assert.strictEqual(failedWith(exit, "KvError").reason._tag, "LockLost")
    assert.strictEqual(within, 1, "the inner lock is held, even though the outer one is lost")
    yield* isFree(kv, "inner")
    yield* rejects(kv, "LockLost", DistLock.fence(client, lock).put("k", "v"))
  }),

  test("a lock of a namespace fences writes in that namespace and in namespaces within it", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const held = yield* hold(app, "l")
    const fenced = DistLock.fence(app, held.lock)
    yield* fenced.put("k", "1")
    yield* Kv.prefixed(fenced, "deep/").put("k", "2")
    assert.strictEqual(yield* textOf(kv, "app/k"), "1")
    assert.strictEqual(yield* textOf(kv, "app/deep/k"), "2")
    yield* held.release
    yield* rejects(kv, "LockLost", Kv.prefixed(fenced, "deep/").put("k", "3"))
  }),

  test("any condition can fence writes", function*(kv) {
    const rejected = KvError.fail(new KvError.InvalidRequest({ message: "the epoch is over" }))
    const guarded = Fence.guarded(kv, [Compare.value("epoch", "=", "1")], rejected)
    yield* kv.put("epoch", "1")
    yield* guarded.put("k", "1")
    yield* kv.put("epoch", "2")
    assert.strictEqual((yield* reasonOf(guarded.put("k", "2")))._tag, "InvalidRequest")
    assert.deepStrictEqual(yield* Effect.exit(guarded.get("k")), Exit.succeed(Option.some("1")))
  })
])
