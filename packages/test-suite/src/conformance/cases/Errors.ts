/**
 * Errors: one `KvError` whose reason says what was wrong and whether a retry is safe.
 *
 * Invalid keys, ranges, transactions, revisions and leases are tested in their own chapters.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { LockLost } from "@effect-kv/core/LockError"
import * as Op from "@effect-kv/core/Op"
import type { Revision } from "@effect-kv/core/Watch"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, rejects, Store, test } from "./Case.ts"
import { textOf } from "./entries.ts"

const everyReason: ReadonlyArray<readonly [KvError.Reason, retryable: boolean, KvError.Outcome]> = [
  [new KvError.Unavailable({ message: "m" }), true, "NotApplied"],
  [new KvError.DeadlineExceeded({ message: "m" }), true, "NotApplied"],
  [new KvError.Unauthenticated({ message: "m" }), false, "NotApplied"],
  [new KvError.PermissionDenied({ message: "m" }), false, "NotApplied"],
  [new KvError.Compacted({ compactRevision: Option.some(7n) }), false, "NotApplied"],
  [new KvError.FutureRevision({ message: "m" }), false, "NotApplied"],
  [new KvError.LeaseNotFound({ message: "m" }), false, "NotApplied"],
  [new KvError.LeaseExists({ message: "m" }), false, "NotApplied"],
  [new KvError.InvalidRequest({ message: "m" }), false, "NotApplied"],
  [new KvError.RequestTooLarge({ message: "m" }), false, "NotApplied"],
  [new KvError.QuotaExceeded({ message: "m" }), false, "Unknown"],
  [new KvError.Closed({ message: "m" }), false, "NotApplied"],
  [new KvError.Indeterminate({ message: "m" }), false, "Unknown"]
]

/** A client whose scope has closed. */
const closedClient = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const kv = yield* Scope.provide(newClient, scope)
  yield* kv.put("k", "v")
  yield* Scope.close(scope, Exit.void)
  return kv
})

const everyCall = (kv: Kv.Kv): ReadonlyArray<Effect.Effect<unknown, KvError.KvError>> => [
  kv.get("k"),
  kv.put("k", "after"),
  kv.delete("k"),
  kv.range(KeyRange.all),
  kv.txn({ then: [Op.put("k", "after")] }),
  kv.testAndSet("k", Option.some("v"), "after"),
  backendOf(kv).leaseGrant({ ttl: "1 minute" }),
  backendOf(kv).leaseKeepAlive(1n),
  backendOf(kv).leaseRevoke(1n),
  backendOf(kv).leaseTimeToLive(1n),
  Effect.scoped(backendOf(kv).watch({ range: KeyRange.all }))
]

export const cases = chapter("errors", [
  test("every error reason says whether a retry is safe", function*() {
    for (const [reason, isRetryable, outcome] of everyReason) {
      const error = KvError.make(reason)
      assert.deepStrictEqual([error.isRetryable, error.outcome], [isRetryable, outcome], reason._tag)
      assert.include(error.message, reason._tag)
      assert.isFalse(isRetryable && outcome === "Unknown", "a write that may have been applied is never safe to retry")
    }
  }),

  test("a program can recover from one error reason by its tag", function*(kv) {
    const recovered = yield* kv.put("", "v").pipe(
      Effect.catchReason("KvError", "InvalidRequest", (reason) => Effect.succeed(reason.message))
    )
    assert.include(recovered, "empty")
    const passed = yield* reasonOf(
      kv.put("", "v").pipe(Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed("wrong")))
    )
    assert.strictEqual(passed._tag, "InvalidRequest")
  }),

  test("an error names the operation and the key as the caller wrote it, in a namespace too", function*(kv) {
    const app = Kv.prefixed(Kv.prefixed(kv, "app/"), "deep/")
    yield* app.put("bytes", Uint8Array.of(0xff))
    const { revision } = yield* app.put("k", "v")
    const future = { revision: revision + 1000n }
    const lease = { lease: 4711n }
    type Row = readonly [Effect.Effect<unknown, KvError.KvError>, operation: string, key: string | undefined]
    const table: ReadonlyArray<Row> = [
      [app.get("k", future), "get", "k"],
      [app.getEntry("k", future), "get", "k"],
      [app.get("bytes"), "get", "bytes"],
      [app.range(KeyRange.prefix("k/"), future), "range", "k/*"],
      [app.range(KeyRange.halfOpen("a", "c"), future), "range", "[a, c)"],
      [app.count(KeyRange.all, future), "count", "*"],
      [Stream.runDrain(app.rangeStream(KeyRange.from("b"), future)), "range", "[b, *)"],
      [app.put("k", "v", lease), "put", "k"],
      [app.put("", "v"), "put", ""],
      [app.delete(""), "delete", ""],
      [app.deleteRange(KeyRange.halfOpen("c", "a")), "deleteRange", "[c, a)"],
      [app.txn({ if: [Compare.exists("k")], then: [Op.put("l", "v", lease), Op.get("k")] }), "txn", "k, l"],
      [app.txn({ then: ["a", "b", "c", "d", "e"].map((key) => Op.put(key, "v", lease)) }), "txn", "a, b, c and 2 more"],
      [app.testAndSet("k", Option.some("v"), "w", lease), "testAndSet", "k"],
      [app.compareAndSet("k", revision, "w", lease), "compareAndSet", "k"],
      [app.modify("bytes", () => "v"), "modify", "bytes"],
      [app.modify("", () => "v"), "modify", ""],
      [Stream.runDrain(app.watch(KeyRange.key(""))), "watch", ""],
      [Effect.scoped(app.subscribe(KeyRange.halfOpen("c", "a"))), "watch", "[c, a)"],
      [backendOf(app).leaseKeepAlive(4711n), "leaseKeepAlive", undefined],
      [backendOf(app).leaseRevoke(4711n), "leaseRevoke", undefined],
      [backendOf(app).leaseTimeToLive(4711n), "leaseTimeToLive", undefined],
      [backendOf(app).leaseGrant({ ttl: 0 }), "leaseGrant", undefined]
    ]
    for (const [call, operation, key] of table) {
      const error = yield* Effect.flip(call)
      assert.deepStrictEqual([error.operation, error.key], [operation, key], error.message)
      const called = key === undefined ? operation : `${operation} ${JSON.stringify(key)}`
      assert.strictEqual(error.message, `${error.reason._tag}: ${called}: ${error.reason.message}`)
    }
  }),

  test("an error shows only the beginning of a long key", function*(kv) {
    const error = yield* Effect.flip(kv.put("k".repeat(10_000), "v", { lease: 4711n }))
    assert.isBelow(error.message.length, 500)
  }),

  test("errors, responses, entries, events and leases are encoded as JSON without values", function*(kv) {
    const secret = "s3cr3t-value"
    const app = Kv.prefixed(kv, "app/")
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 hour", id: 2n ** 60n + 1n })
    const put = yield* app.put("k", secret, { lease: lease.id })
    const watcher = yield* backendOf(app).watch({ range: KeyRange.all, startRevision: put.revision, previous: true })
    const again = yield* app.put("k", secret, { lease: lease.id, previous: true })
    const status = yield* backendOf(app).leaseTimeToLive(lease.id, { keys: true })
    const range = yield* app.range(KeyRange.all)
    const txn = yield* app.txn({
      if: [Compare.exists("k")],
      then: [Op.get("k"), Op.put("l", secret), Op.txn({ then: [] })]
    })
    const deleted = yield* app.delete("k", { previous: true })
    const batches: Array<Revision> = []
    while ((batches.at(-1)?.revision ?? 0n) < deleted.revision) batches.push(...yield* watcher.take)
    const live = yield* Stream.runHead(watcher.status)
    const json = (value: unknown) => {
      const text = JSON.stringify(value)
      assert.notInclude(text, secret)
      return JSON.parse(text)
    }
    const entry = {
      _id: "Entry",
      key: "k",
      value: "<12 bytes>",
      createRevision: `${put.revision}`,
      modRevision: `${again.revision}`,
      version: 2,
      lease: `${lease.id}`
    }
    const before = { ...entry, modRevision: `${put.revision}`, version: 1 }
    assert.deepStrictEqual(json(range), {
      _tag: "Range",
      revision: `${again.revision}`,
      entries: [entry],
      count: 1,
      more: false
    })
    assert.deepStrictEqual(json(put), { _tag: "Put", revision: `${put.revision}`, previous: null })
    assert.deepStrictEqual(json(again), { _tag: "Put", revision: `${again.revision}`, previous: before })
    assert.deepStrictEqual(json(txn), {
      _tag: "Txn",
      revision: `${txn.revision}`,
      succeeded: true,
      responses: [
        { _tag: "Range", revision: `${txn.revision}`, entries: [entry], count: 1, more: false },
        { _tag: "Put", revision: `${txn.revision}`, previous: null },
        { _tag: "Txn", revision: `${txn.revision}`, succeeded: true, responses: [] }
      ]
    })
    assert.deepStrictEqual(json(deleted), {
      _tag: "Delete",
      revision: `${deleted.revision}`,
      deleted: 1,
      previous: [entry]
    })
    const [first] = batches
    const last = batches.at(-1)
    assert.deepStrictEqual(json(first), {
      revision: `${put.revision}`,
      events: [{ _tag: "Put", key: "k", revision: `${put.revision}`, entry: before, isCreate: true, previous: null }]
    })
    assert.deepStrictEqual(json(last), {
      revision: `${deleted.revision}`,
      events: [{ _tag: "Delete", key: "k", revision: `${deleted.revision}`, previous: entry }]
    })
    assert.match(json(Option.getOrThrow(live)).revision, /^\d+$/)
    assert.strictEqual(json(lease).id, `${lease.id}`)
    assert.deepStrictEqual([json(status).id, json(status).keys], [`${lease.id}`, ["k"]])
    for (
      const [reason] of [...everyReason, [new LockLost({ lock: "l", token: 7n, reason: "it was deleted" })] as const]
    ) {
      const error = KvError.make(reason, { operation: "put", key: "k", endpoint: "http://127.0.0.1:2379", status: 14 })
      const { message, outcome, reason: inner, ...rest } = json(error)
      assert.deepStrictEqual(rest, {
        _tag: "KvError",
        operation: "put",
        key: "k",
        endpoint: "http://127.0.0.1:2379",
        status: 14,
        isRetryable: error.isRetryable
      })
      assert.deepStrictEqual([message, outcome], [error.message, error.outcome])
      assert.deepStrictEqual([inner._tag, inner.message], [reason._tag, reason.message])
    }
  }),

  test("a request that is too large fails with RequestTooLarge, and the client stays usable", function*(kv) {
    const { limits: { maxRequestBytes: max } } = yield* Store
    for (const size of [max + 64 * 1024, 2 * max]) {
      const value = new Uint8Array(size).fill(0x61)
      yield* rejects(kv, "RequestTooLarge", kv.put("k", value))
      yield* rejects(kv, "RequestTooLarge", kv.txn({ then: [Op.get("k"), Op.txn({ then: [Op.put("k", value)] })] }))
      const half = value.subarray(0, size / 2)
      yield* rejects(kv, "RequestTooLarge", kv.txn({ then: [Op.put("a", half), Op.put("b", half)] }))
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("a rejected call does not affect concurrent calls", function*(kv) {
    const { limits: { maxRequestBytes: max } } = yield* Store
    const bad = [
      reasonOf(kv.put("k", new Uint8Array(2 * max))),
      reasonOf(kv.put("", "v")),
      reasonOf(kv.put("k", "v", { lease: 4711n })),
      reasonOf(kv.get("k", { revision: 1_000_000_000n }))
    ]
    const tags = yield* Effect.forEach(
      Array.from({ length: 40 }, (_, i) => i),
      (i) =>
        i % 2 === 0
          ? Effect.as(kv.put(`good/${i}`, "v"), "written")
          : Effect.map(bad[(i >> 1) % bad.length]!, (reason) => reason._tag),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(tags.filter((tag) => tag === "written").length, 20)
    assert.deepStrictEqual([tags[1], tags[3], tags[5], tags[7]], [
      "RequestTooLarge",
      "InvalidRequest",
      "LeaseNotFound",
      "FutureRevision"
    ])
    assert.strictEqual(yield* kv.count(KeyRange.prefix("good/")), 20)
    assert.strictEqual(yield* kv.count(KeyRange.all), 20)
  }),

  test("no error shows a value", function*(kv) {
    const { limits } = yield* Store
    const secret = "s3cr3t-value"
    const errors = yield* Effect.forEach([
      kv.put("", secret),
      kv.put("k", `${secret}\ud800`),
      kv.put("k", secret, { lease: 4711n }),
      kv.txn({ then: [Op.put("k", secret), Op.put("k", secret)] }),
      kv.testAndSet("k", Option.some(`${secret}\ud800`), secret),
      kv.put("k", secret.repeat(limits.maxRequestBytes / 8))
    ], (call: Effect.Effect<unknown, KvError.KvError>) => Effect.flip(call))
    for (const error of errors) {
      const printed = [
        error.message,
        error.stack ?? "",
        String(error),
        JSON.stringify(error),
        Formatter.format(error),
        Cause.pretty(Cause.fail(error))
      ]
      for (const text of printed) assert.notInclude(text, secret)
    }
  }),

  test("after its scope has closed, every call of a client fails at once with Closed", function*(kv) {
    const closed = yield* closedClient
    for (const call of everyCall(closed)) {
      const reason = yield* promptly("Closed", reasonOf(call))
      assert.strictEqual(reason._tag, "Closed", reason.message)
    }
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  }),

  test("a deadline longer than timers support never expires", function*(kv) {
    for (const deadline of [Infinity, Number.MAX_SAFE_INTEGER, "5000000 days", "30 days"] as const) {
      const calls = Effect.gen(function*() {
        const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
        yield* Effect.all([kv.put("a", "1", { lease: id }), kv.put("b", "1"), kv.get("a")], {
          concurrency: "unbounded"
        })
        yield* backendOf(kv).leaseKeepAlive(id)
        yield* backendOf(kv).leaseTimeToLive(id)
        yield* kv.txn({ then: [Op.delete("a"), Op.delete("b")] })
        yield* backendOf(kv).leaseRevoke(id)
        yield* Effect.scoped(kv.subscribe(KeyRange.key("a")))
      })
      yield* promptly(`calls with a deadline of ${deadline}`, Deadline.within(calls, deadline))
    }
  }),

  test("an interrupted call leaves the client usable", function*(kv) {
    yield* kv.put("k", "v")
    for (let i = 0; i < 20; i++) {
      const fiber = yield* Effect.forkChild(kv.range(KeyRange.all))
      if (i % 2 === 0) yield* Effect.yieldNow
      yield* promptly("the interruption", Fiber.interrupt(fiber))
    }
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  })
])
