/**
 * Atomic reads and writes of several keys: `Kv.atomically`, its conflicts and its limits.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { chapter, newClient, promptly, reasonOf, rejects, revisionOf, Store, test, waitingTest } from "./Case.ts"
import { entryOf, putAll, putInLoops, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import * as fences from "./fences.ts"
import { on } from "./locking.ts"

const numberOf = Option.match({ onNone: () => 0, onSome: Number })

/** Moves an amount between two accounts, if there is enough. */
const transfer = (kv: Kv.Kv, from: string, to: string, amount: number) =>
  kv.atomically(Effect.fnUntraced(function*(t) {
    const available = numberOf(yield* t.get(from))
    if (available < amount) return false
    yield* t.put(from, `${available - amount}`)
    yield* Effect.yieldNow
    yield* t.put(to, `${numberOf(yield* t.get(to)) + amount}`)
    return true
  }))

/**
 * Runs a transaction into which another client's write falls, after its reads and before its commit. Returns the number
 * of runs.
 */
const runsDespite = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  body: (t: Kv.Transaction) => Effect.Effect<A, E>,
  between: Effect.Effect<unknown, KvError.KvError>
) {
  let runs = 0
  const result = yield* kv.atomically((t) => Effect.tap(body(t), () => ++runs === 1 ? between : Effect.void))
  return { runs, result }
})

export const cases = chapter("atomically", [
  test("several keys are read and written as one, at one revision", function*(kv) {
    yield* kv.put("a", "100")
    assert.isTrue(yield* transfer(kv, "a", "b", 70))
    assert.isFalse(yield* transfer(kv, "a", "b", 70))
    assert.deepStrictEqual([yield* textOf(kv, "a"), yield* textOf(kv, "b")], ["30", "70"])
    assert.strictEqual((yield* entryOf(kv, "a")).modRevision, (yield* entryOf(kv, "b")).modRevision)
  }),

  test("a transaction sees what it wrote, and what it deleted is missing", function*(kv) {
    yield* putAll(kv, ["l/a", "l/b", "l/c"])
    const seen = yield* kv.atomically(Effect.fnUntraced(function*(t) {
      yield* t.put("k", "1")
      const put = yield* t.get("k")
      yield* t.put("k", "2")
      yield* t.delete("l/b")
      yield* t.put("l/bb", "new")
      yield* t.put("m", "outside of the range")
      const entry = Option.getOrThrow(yield* t.getEntry("l/bb"))
      const listed = (yield* t.list(KeyRange.prefix("l/"))).map(({ key }) => key)
      return { put, deleted: yield* t.get("l/b"), listed, revision: entry.modRevision }
    }))
    assert.deepStrictEqual(seen, {
      put: Option.some("1"),
      deleted: Option.none(),
      listed: ["l/a", "l/bb", "l/c"],
      revision: 0n
    })
    assert.strictEqual(yield* textOf(kv, "k"), "2")
    assert.strictEqual((yield* entryOf(kv, "k")).version, 1)
    assert.strictEqual(yield* textOf(kv, "l/b"), undefined)
  }),

  test("all reads show one revision, even if every key is overwritten in between", function*(kv) {
    yield* putAll(kv, ["a", "b", "l/a"], () => "old")
    const other = yield* newClient
    const seen: Array<string> = []
    yield* kv.atomically(Effect.fnUntraced(function*(t) {
      const a = yield* t.get("a")
      if (seen.length === 0) yield* Effect.andThen(putAll(other, ["a", "b", "l/a", "l/b"], () => "new"), Effect.void)
      const b = yield* t.get("b")
      const list = yield* t.list(KeyRange.prefix("l/"))
      seen.push([a, b, ...list.map(({ lossyText }) => Option.some(lossyText))].map(Option.getOrThrow).join())
    }))
    assert.deepStrictEqual(seen, ["old,old,old"], "without a write there is nothing to conflict with")
  }),

  test("a key that was deleted, changed, or created meanwhile runs the transaction again", function*(kv) {
    const other = yield* newClient
    yield* putAll(kv, ["deleted", "changed", "same"], () => "old")
    const copy = (key: string) => (t: Kv.Transaction) =>
      Effect.flatMap(t.get(key), (text) => t.put("copy", Option.getOrElse(text, () => "none")))
    const table = [
      ["deleted", other.delete("deleted"), "none", 2],
      ["changed", other.put("changed", "new"), "new", 2],
      ["created", other.put("created", "new"), "new", 2],
      ["same", other.put("same", "old"), "old", 2],
      ["same", other.put("unrelated", ""), "old", 1],
      ["same", other.put("copy", "overwritten"), "old", 1]
    ] as const
    for (const [key, between, copied, runs] of table) {
      assert.strictEqual((yield* runsDespite(kv, copy(key), between)).runs, runs, key)
      assert.strictEqual(yield* textOf(kv, "copy"), copied, key)
    }
  }),

  test(
    "a range that was read is guarded: a key created, changed or deleted in it runs the transaction again",
    function*(kv) {
      const other = yield* newClient
      const count = (t: Kv.Transaction) =>
        Effect.flatMap(t.list(KeyRange.prefix("l/")), (entries) => t.put("count", `${entries.length}`))
      const table = [
        [other.put("l/a", ""), 2, "1"],
        [other.put("l/b", ""), 2, "2"],
        [other.put("l/b", "changed"), 2, "2"],
        [other.delete("l/a"), 2, "1"],
        [Effect.andThen(other.delete("l/b"), other.put("l/b", "again")), 2, "1"],
        [Effect.andThen(other.put("l/c", ""), other.delete("l/c")), 1, "1"],
        [other.put("l", "beside"), 1, "1"],
        [other.put("l0", "behind"), 1, "1"]
      ] as const
      for (const [i, [between, runs, counted]] of table.entries()) {
        assert.strictEqual((yield* runsDespite(kv, count, between)).runs, runs, `row ${i}`)
        assert.strictEqual(yield* textOf(kv, "count"), counted, `row ${i}`)
      }
    }
  ),

  test("a conflict costs one request, and nothing is sent without a write", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const body = Effect.fnUntraced(function*(t: Kv.Transaction) {
      const sum = numberOf(yield* t.get("a")) + (yield* t.list(KeyRange.prefix("l/"))).length
      yield* t.put("sum", `${sum}`)
    })
    assert.strictEqual((yield* runsDespite(client, body, kv.put("a", "1"))).runs, 2)
    assert.deepStrictEqual(seen.calls.map(({ op }) => op?._tag), ["Range", "Range", "Txn", "Txn"])
    seen.calls.length = 0
    yield* client.atomically((t) => t.get("a"))
    assert.deepStrictEqual(seen.calls.map(({ op }) => op?._tag), ["Range"])
    assert.strictEqual(yield* textOf(kv, "sum"), "1")
  }),

  test("a failed function writes nothing", function*(kv) {
    const before = yield* revisionOf(kv)
    for (const end of [Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
      const exit = yield* Effect.exit(kv.atomically((t) => Effect.andThen(t.put("a", "1"), end)))
      assert.isTrue(Exit.isFailure(exit))
    }
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("concurrent transfers of several fibers and clients keep the total", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const accounts = ["a", "b", "c", "d"]
    yield* putAll(kv, accounts, () => "100")
    yield* promptly(
      "all transfers",
      Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i),
        (i) => transfer(clients[i % 3]!, accounts[i % 4]!, accounts[(i + 1) % 4]!, i),
        { concurrency: "unbounded" }
      )
    )
    const { entries } = yield* kv.range(KeyRange.closed("a", "d"))
    assert.strictEqual(entries.reduce((sum, { lossyText }) => sum + Number(lossyText), 0), 400)
  }),

  test(
    "a transaction succeeds while other fibers of its client put what it reads in a loop, and they continue",
    function*(kv) {
      const allHavePut = yield* putInLoops(kv, "l/k")
      const app = Kv.prefixed(kv, "l/")
      const copy = app.atomically((t) => Effect.flatMap(t.get("k"), (text) => t.put("copy", Option.getOrThrow(text))))
      const count = kv.atomically((t) =>
        Effect.flatMap(t.list(KeyRange.prefix("l/")), (entries) => t.put("count", `${entries.length}`))
      )
      for (const transaction of [copy, count]) {
        yield* allHavePut
        yield* promptly("the transaction", transaction)
      }
      yield* allHavePut
      assert.match(`${yield* textOf(kv, "l/copy")}`, /^\d$/)
      assert.strictEqual(yield* textOf(kv, "count"), "2")
    }
  ),

  test("two transactions that each read what the other writes are not both applied on old reads", function*(kv) {
    const clients = [kv, yield* newClient]
    yield* putAll(kv, ["on-call/a", "on-call/b"], () => "yes")
    const leave = (client: Kv.Kv, who: string) =>
      client.atomically(Effect.fnUntraced(function*(t) {
        const here = (yield* t.list(KeyRange.prefix("on-call/"))).filter(({ lossyText }) => lossyText === "yes")
        yield* Effect.yieldNow
        if (here.length < 2) return false
        yield* t.put(`on-call/${who}`, "no")
        return true
      }))
    const left = yield* Effect.all([leave(clients[0]!, "a"), leave(clients[1]!, "b")], { concurrency: "unbounded" })
    assert.deepStrictEqual(left.toSorted(), [false, true])
  }),

  test("a transaction that is too large fails before anything is sent", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const { limits } = yield* Store
    const keys = Array.from({ length: limits.maxTxnOps + 1 }, (_, i) => `k/${`${i}`.padStart(3, "0")}`)
    const putOf = (count: number) => (t: Kv.Transaction) =>
      Effect.forEach(keys.slice(0, count), (key) => t.put(key, "v"), { discard: true })
    yield* client.atomically(putOf(128))
    seen.calls.length = 0
    const tooMany = yield* rejects(kv, "InvalidRequest", client.atomically(putOf(129)))
    assert.include(tooMany.message, "129")
    assert.lengthOf(seen.calls, 0)
    const all = (t: Kv.Transaction) => Effect.andThen(t.list(KeyRange.prefix("k/")), t.put("copied", ""))
    yield* rejects(kv, "InvalidRequest", client.atomically(all))
    yield* kv.delete(keys[0]!)
    yield* client.atomically(all)
    const underLock = on(client)(DistLock.withDistLock(client.atomically(putOf(128)), "l"))
    const reason = yield* reasonOf(underLock)
    assert.strictEqual(reason._tag, "InvalidRequest")
    yield* on(client)(DistLock.withDistLock(client.atomically(putOf(127)), "l"))
  }),

  test("a commit whose response is lost fails with Indeterminate, and is applied once", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    yield* kv.put("a", "100")
    let losses = 1
    lossy.after = (call) => call.op?._tag === "Txn" && losses-- > 0 ? faults.lostResponse : Effect.void
    const reason = yield* reasonOf(transfer(client, "a", "b", 10))
    assert.deepStrictEqual([reason._tag, reason.outcome], ["Indeterminate", "Unknown"])
    assert.deepStrictEqual([yield* textOf(kv, "a"), yield* textOf(kv, "b")], ["90", "10"])
    assert.strictEqual((yield* entryOf(kv, "b")).version, 1)
  }),

  test("a transaction under a lock is rejected once the lock is lost", function*(kv) {
    const client = yield* fences.blindClient
    yield* fences.isFenced(
      kv,
      client,
      "l",
      (value) => client.atomically((t) => Effect.andThen(t.get("k"), t.put("k", value))),
      "atomically"
    )
  }),

  test("a revision that is compacted during the function starts it again", function*(kv) {
    const { compact } = yield* Store
    yield* putAll(kv, ["a", "b"], () => "1")
    let runs = 0
    const sum = yield* kv.atomically(Effect.fnUntraced(function*(t) {
      const a = numberOf(yield* t.get("a"))
      if (++runs === 1) {
        yield* kv.put("b", "2")
        yield* Effect.orDie(compact((yield* kv.put("b", "3")).revision))
      }
      // A function that handles the failure must not commit on it.
      const b = yield* Effect.orElseSucceed(t.get("b"), () => Option.some("100"))
      yield* t.put("sum", `${a + numberOf(b)}`)
      return a + numberOf(b)
    }))
    assert.deepStrictEqual([runs, sum, yield* textOf(kv, "sum")], [2, 4, "4"])
  }),

  test("a transaction cannot be used after its function has ended", function*(kv) {
    const t = yield* kv.atomically((t) => Effect.succeed(t))
    yield* rejects(kv, "InvalidRequest", t.put("a", "1"))
    yield* rejects(kv, "InvalidRequest", t.get("a"))
  }),

  waitingTest("a transaction that has conflicts until its deadline fails, and has changed nothing", function*(kv) {
    const { passTime } = yield* Store
    let runs = 0
    const body = Effect.fnUntraced(function*(t: Kv.Transaction) {
      runs++
      yield* t.put("late/copy", Option.getOrElse(yield* t.get("late/busy"), () => ""))
      yield* kv.put("late/busy", `${runs}`)
      yield* passTime("3 seconds")
    })
    const reason = yield* reasonOf(Deadline.within(kv.atomically(body), "3 seconds"))
    assert.deepStrictEqual([reason._tag, reason.outcome], ["DeadlineExceeded", "NotApplied"])
    assert.include(reason.message, "other writes")
    assert.strictEqual(runs, 1)
    assert.strictEqual(yield* textOf(kv, "late/copy"), undefined)
  }),

  test("a put in a transaction can attach a lease, or keep the one of its key", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.atomically((t) => t.put("a", "1", { lease: id }))
    yield* kv.atomically((t) => Effect.andThen(t.put("a", "2", { lease: "keep" }), t.put("b", "2", { lease: "keep" })))
    assert.deepStrictEqual((yield* entryOf(kv, "a")).lease, Option.some(id))
    assert.deepStrictEqual((yield* entryOf(kv, "b")).lease, Option.none())
    yield* kv.atomically((t) => t.put("a", "3"))
    assert.deepStrictEqual((yield* entryOf(kv, "a")).lease, Option.none())
    yield* backendOf(kv).leaseRevoke(id)
  }),

  test("keys of a namespace are those of its transactions", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    yield* kv.put("outside", "1")
    yield* app.atomically(Effect.fnUntraced(function*(t) {
      yield* t.put("a", "1")
      assert.deepStrictEqual((yield* t.list(KeyRange.all)).map(({ key }) => key), ["a"])
    }))
    assert.strictEqual(yield* textOf(kv, "app/a"), "1")
    const { succeeded } = yield* kv.txn({ if: [Compare.missing("a")] })
    assert.isTrue(succeeded)
  })
])
