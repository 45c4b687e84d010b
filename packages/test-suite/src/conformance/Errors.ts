/**
 * Errors: one `KvError` whose reason says what was wrong and whether a retry is safe.
 *
 * What is wrong with keys, ranges, transactions, revisions and leases is with their chapters.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, rejects, Store, test } from "./Case.ts"
import { textOf } from "./entries.ts"

const everyReason: ReadonlyArray<readonly [KvError.Reason, retryable: boolean, KvError.Outcome]> = [
  [new KvError.Unavailable({ message: "m" }), true, "NotApplied"],
  [new KvError.DeadlineExceeded({ message: "m" }), true, "NotApplied"],
  [new KvError.Unauthenticated({ message: "m" }), false, "NotApplied"],
  [new KvError.PermissionDenied({ message: "m" }), false, "NotApplied"],
  [new KvError.Compacted({ compactRevision: 7n }), false, "NotApplied"],
  [new KvError.FutureRevision({ message: "m" }), false, "NotApplied"],
  [new KvError.LeaseNotFound({ message: "m" }), false, "NotApplied"],
  [new KvError.LeaseExists({ message: "m" }), false, "NotApplied"],
  [new KvError.InvalidRequest({ message: "m" }), false, "NotApplied"],
  [new KvError.RequestTooLarge({ message: "m" }), false, "NotApplied"],
  [new KvError.QuotaExceeded({ message: "m" }), false, "Unknown"],
  [new KvError.Closed({ message: "m" }), false, "NotApplied"],
  [new KvError.Indeterminate({ message: "m" }), false, "Unknown"]
]

/** A client whose scope has ended. */
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
  kv.backend.leaseGrant({ ttl: "1 minute" }),
  kv.backend.leaseKeepAlive(1n),
  kv.backend.leaseRevoke(1n),
  kv.backend.leaseTimeToLive(1n),
  Effect.scoped(kv.backend.watch({ range: KeyRange.all }))
]

export const cases = chapter("errors", [
  test("every reason says whether a retry is safe", function*() {
    for (const [reason, isRetryable, outcome] of everyReason) {
      const error = KvError.make(reason)
      assert.deepStrictEqual([error.isRetryable, error.outcome], [isRetryable, outcome], reason._tag)
      assert.include(error.message, reason._tag)
      assert.isFalse(isRetryable && outcome === "Unknown", "what may have been applied is never safe to repeat")
    }
  }),

  test("one reason can be recovered from by its name", function*(kv) {
    const recovered = yield* kv.put("", "v").pipe(
      Effect.catchReason("KvError", "InvalidRequest", (reason) => Effect.succeed(reason.message))
    )
    assert.include(recovered, "empty")
    const passed = yield* reasonOf(
      kv.put("", "v").pipe(Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed("wrong")))
    )
    assert.strictEqual(passed._tag, "InvalidRequest")
  }),

  test("a request that is too large is rejected as such, and the connection goes on", function*(kv) {
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

  test("a refused call does no harm to others at the same time", function*(kv) {
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

  test("after its scope a client answers Closed, to everything and at once", function*(kv) {
    const closed = yield* closedClient
    for (const call of everyCall(closed)) {
      const reason = yield* promptly("Closed", reasonOf(call))
      assert.strictEqual(reason._tag, "Closed", reason.message)
    }
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  }),

  test("a deadline longer than timers can hold means none", function*(kv) {
    for (const deadline of [Infinity, Number.MAX_SAFE_INTEGER, "5000000 days", "30 days"] as const) {
      const calls = Effect.gen(function*() {
        const { id } = yield* kv.backend.leaseGrant({ ttl: "1 hour" })
        yield* Effect.all([kv.put("a", "1", { lease: id }), kv.put("b", "1"), kv.get("a")], {
          concurrency: "unbounded"
        })
        yield* kv.backend.leaseKeepAlive(id)
        yield* kv.backend.leaseTimeToLive(id)
        yield* kv.txn({ then: [Op.delete("a"), Op.delete("b")] })
        yield* kv.backend.leaseRevoke(id)
        yield* Effect.scoped(kv.subscribe("a"))
      })
      yield* promptly(`calls with a deadline of ${deadline}`, Deadline.within(calls, deadline))
    }
  }),

  test("an interrupted call leaves nothing behind", function*(kv) {
    yield* kv.put("k", "v")
    for (let i = 0; i < 20; i++) {
      const fiber = yield* Effect.forkChild(kv.range(KeyRange.all))
      if (i % 2 === 0) yield* Effect.yieldNow
      yield* promptly("the interruption", Fiber.interrupt(fiber))
    }
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  })
])
