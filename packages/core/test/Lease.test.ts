import * as Check from "@effect-kv/core/Check"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { integer } from "./arbitraries.ts"

describe("Check.grantSeconds", () => {
  it.effect.prop("rounds up to whole seconds", [integer(1, 10_000_000)], ([millis]) =>
    Effect.gen(function*() {
      const seconds = yield* Check.grantSeconds({ ttl: Duration.millis(millis) })
      assert.isTrue(Number.isInteger(seconds) && seconds * 1000 >= millis && (seconds - 1) * 1000 < millis)
    }))

  it.effect("rejects an invalid time to live and an invalid id", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<Lease.GrantOptions> = [
        { ttl: 0 },
        { ttl: -1 },
        { ttl: Number.NaN },
        { ttl: Duration.infinity },
        { ttl: Duration.seconds(Lease.maxTtlSeconds + 1) },
        { ttl: "nonsense" as Duration.Input },
        { ttl: "5 seconds", id: 0n },
        { ttl: "5 seconds", id: -5n },
        { ttl: "5 seconds", id: 2n ** 63n }
      ]
      for (const options of bad) {
        const error = yield* Effect.flip(Check.grantSeconds(options))
        assert.strictEqual(error.reason._tag, "InvalidRequest")
      }
      assert.strictEqual(yield* Check.grantSeconds({ ttl: Duration.seconds(Lease.maxTtlSeconds) }), Lease.maxTtlSeconds)
      assert.strictEqual(yield* Check.grantSeconds({ ttl: "1 minute", id: 2n ** 63n - 1n }), 60)
    }))
})

describe("Check.watch", () => {
  it("finds the problem with a request", () => {
    assert.isUndefined(Check.watch({ range: KeyRange.all }))
    assert.isUndefined(Check.watch({ range: KeyRange.all, startRevision: 2n ** 63n - 1n }))
    assert.match(Check.watch({ range: KeyRange.key("") }) ?? "", /must not be empty/)
    for (const startRevision of [0n, -1n, 2n ** 63n]) {
      assert.match(Check.watch({ range: KeyRange.all, startRevision }) ?? "", /startRevision must be a positive/)
    }
  })
})

describe("Deadline", () => {
  it.effect("applies to the calls of an effect, and a nested deadline only shortens it", () =>
    Effect.gen(function*() {
      const current = Effect.map(Deadline.Deadline, (deadline) => deadline && Duration.toMillis(deadline))
      assert.strictEqual(yield* current, undefined)
      assert.strictEqual(yield* Deadline.within(current, "2 seconds"), 2000)
      assert.strictEqual(yield* current.pipe(Deadline.within("1 second"), Deadline.within("2 seconds")), 1000)
      assert.strictEqual(yield* current.pipe(Deadline.within("10 seconds"), Deadline.within("1 second")), 1000)
      assert.strictEqual(Duration.toSeconds(Deadline.defaultDeadline), 5)
    }))
})

describe("KvError", () => {
  it("begins its message with the reason, and keeps the reason typed", () => {
    const error = KvError.make(new KvError.Compacted({ compactRevision: Option.some(42n) }))
    assert.match(error.message, /^Compacted: .*42/)
    assert.strictEqual(error._tag, "KvError")
    assert.isTrue(KvError.isKvError(error) && error instanceof Error)
    assert.isFalse(KvError.isKvError(new Error("no")))
    assert.match(
      KvError.make(new KvError.Compacted({ compactRevision: Option.none() })).message,
      /has been compacted; read at a newer/
    )
  })

  it.effect("can be caught by its reason", () =>
    Effect.gen(function*() {
      const failing = KvError.fail(new KvError.Compacted({ compactRevision: Option.some(7n) }))
      const revision = yield* failing.pipe(
        Effect.catchReason("KvError", "Compacted", (reason) => Effect.succeed(reason.compactRevision))
      )
      assert.deepStrictEqual(revision, Option.some(7n))
    }))
})
