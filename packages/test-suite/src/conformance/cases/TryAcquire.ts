/**
 * `DistLock.tryAcquire`: one transaction that acquires all of the locks or none, and never waits.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import { chapter, newClient, revisionOf, test } from "./Case.ts"
import * as faults from "./faults.ts"
import { contenders, hold, isFree, on, pauseBetweenPolls } from "./locking.ts"
import { insideCounter, section } from "./lockSections.ts"

export const cases = chapter("locks", [
  test("tryAcquire returns at once: with the lock, or with none and nothing left behind", function*(kv) {
    const other = yield* newClient
    const first = yield* on(kv)(DistLock.tryAcquire("l"))
    assert.isTrue(Option.isSome(first))
    assert.isTrue(Option.isNone(yield* on(other)(DistLock.tryAcquire("l"))))
    assert.isTrue(Option.isNone(yield* on(kv)(DistLock.tryAcquire("l"))))
    assert.strictEqual(yield* contenders(kv, "l"), 1)
    const held = yield* Effect.scoped(on(other)(DistLock.tryAcquire("m")))
    assert.isTrue(Option.isSome(held))
    yield* isFree(kv, "m")
  }),

  test("tryAcquire is one transaction; a failed attempt writes nothing and blocks no other client", function*(kv) {
    const held = yield* hold(kv, "l")
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "keeps")
    seen.calls.length = 0
    const { revision } = yield* kv.put("before", "1")
    for (let i = 0; i < 3; i++) {
      assert.isTrue(Option.isNone(yield* Effect.scoped(on(client)(DistLock.tryAcquire("l")))))
    }
    assert.deepStrictEqual(seen.calls.map((call) => call.op?._tag ?? call.kind), ["Txn", "Txn", "Txn"])
    assert.strictEqual(yield* revisionOf(kv), revision, "nothing was written")
    yield* held.release
    const got = yield* on(client)(DistLock.tryAcquire("l"))
    assert.isTrue(Option.isSome(got))
  }),

  test("tryAcquire of several locks is one transaction that acquires all or none, and leaves nothing", function*(kv) {
    const held = yield* hold(kv, "b")
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "keeps")
    seen.calls.length = 0
    const { revision } = yield* kv.put("before", "1")
    const attempt = on(client)(DistLock.tryAcquire(["c", "a", "b", "a"]))
    assert.isTrue(Option.isNone(yield* Effect.scoped(attempt)))
    assert.deepStrictEqual(seen.calls.map((call) => call.op?._tag ?? call.kind), ["Txn"])
    assert.strictEqual(yield* revisionOf(kv), revision, "nothing was written")
    yield* held.release
    for (const name of ["a", "b", "c"]) yield* isFree(kv, name)

    const scope = yield* Scope.make()
    seen.calls.length = 0
    const { parts } = Option.getOrThrow(yield* Scope.provide(attempt, scope))
    assert.deepStrictEqual(seen.calls.map((call) => call.op?._tag ?? call.kind), ["Txn"])
    assert.deepStrictEqual(parts.map(({ name }) => name), ["a", "b", "c"])
    for (const { key, name, token } of parts) {
      const holder = Option.getOrThrow(yield* on(kv)(DistLock.holder(name)))
      assert.deepStrictEqual([holder.key, holder.token], [key, token])
      assert.isTrue(Option.isNone(yield* Effect.scoped(on(kv)(DistLock.tryAcquire(["d", name])))))
    }
    assert.strictEqual(yield* contenders(kv, "d"), 0)
    yield* Scope.close(scope, Exit.void)
    for (const name of ["a", "b", "c", "d"]) yield* isFree(kv, name)
  }),

  test("several locks from tryAcquire are fenced by all their keys, and lost with the first of them", function*(kv) {
    const blind = faults.make()
    const client = yield* faults.newClientWith(blind)
    blind.before = (call) => call.kind === "watch" ? Effect.never : Effect.void
    for (const i of [0, 1]) {
      const scope = yield* Scope.make()
      const lock = Option.getOrThrow(yield* on(client)(Scope.provide(DistLock.tryAcquire(["a", "b"]), scope)))
      yield* kv.delete(lock.parts[i]!.key)
      const rejected = yield* Effect.flip(on(client)(DistLock.fenced(client.put("k", "2"), lock)))
      assert.strictEqual(rejected._tag, "LockLost")
      const lost = yield* Effect.flip(lock.lost)
      assert.deepStrictEqual([lost.lock, lost.token], ["a, b", lock.parts[0].token])
      assert.strictEqual(lost.token, lock.parts[1]!.token, "both were acquired by one transaction")
      yield* Scope.close(scope, Exit.void)
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("clients that poll a lock with tryAcquire all acquire it repeatedly", function*(kv) {
    const inside = yield* insideCounter
    const poll = Effect.fnUntraced(function*(client: Kv.Kv) {
      for (let got = 0; got < 2;) {
        const attempt = Effect.gen(function*() {
          const lock = yield* DistLock.tryAcquire("l")
          if (Option.isSome(lock)) yield* section(client, inside)
          return Option.isSome(lock)
        })
        if (yield* Effect.scoped(on(client)(attempt))) got++
        else yield* pauseBetweenPolls
      }
    })
    const clients = yield* Effect.replicateEffect(newClient, 32)
    yield* Effect.forEach(clients, poll, { concurrency: "unbounded", discard: true })
    assert.deepStrictEqual(yield* Ref.get(inside), { now: 0, most: 1, total: 64 })
    yield* isFree(kv, "l")
  }),

  test("tryAcquire ignores keys further down, created before or meanwhile", function*(kv) {
    for (const key of ["l/a/1", "l/a/2", "l/b/1", "l", "l0"]) yield* kv.put(key, "v")
    const other = yield* newClient
    const scope = yield* Scope.make()
    assert.isTrue(Option.isSome(yield* on(kv)(Scope.provide(DistLock.tryAcquire("l"), scope))))
    yield* kv.put("l/c/1", "v")
    assert.isTrue(Option.isNone(yield* Effect.scoped(on(other)(DistLock.tryAcquire("l")))))
    yield* Scope.close(scope, Exit.void)
    // One key is created between the read of the queue and the transaction.
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    let reads = 0
    seen.after = (call) =>
      call.op?._tag === "Range" && reads++ === 0 ? Effect.orDie(Effect.asVoid(kv.put("l/d/1", "v"))) : Effect.void
    assert.isTrue(Option.isSome(yield* on(client)(DistLock.tryAcquire("l"))))
    assert.strictEqual(reads, 2)
  })
])
