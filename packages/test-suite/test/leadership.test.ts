/**
 * `LockChecker` checks elections: two leaders never have accepted writes, and a leader without a fence is found.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { LockChecker, Recorder } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { kinds } from "./smallHistories.ts"

/** A leader writes after an operator has deleted its key and another leader has written. It does not know yet. */
const staleLeader = (fenced: boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const recorder = yield* Recorder.make
    const backend = yield* store.connect
    const deaf = yield* Kv.make(
      recorder.client("a")({
        ...backend,
        watch: () => KvError.fail(new KvError.Unavailable({ message: "watches do not work, says the test" }))
      })
    )
    const kv = yield* Effect.flatMap(store.connect, (other) => Kv.make(recorder.client("b")(other)))
    const leads = yield* Deferred.make<void>()
    const proceed = yield* Deferred.make<void>()

    const stale = yield* recorder.withLeadership(
      "a",
      "e",
      (leadership) =>
        Effect.andThen(Deferred.succeed(leads, undefined), Deferred.await(proceed)).pipe(
          Effect.andThen(deaf.put("counter", "a")),
          recorder.fenced("a", leadership, "counter")
        ),
      { fenced }
    ).pipe(Effect.provideService(Kv.Kv, deaf), Effect.exit, Effect.forkChild)
    yield* Deferred.await(leads)
    yield* Effect.gen(function*() {
      yield* kv.delete(Option.getOrThrow(yield* Election.leader("e")).key)
      yield* recorder.withLeadership(
        "b",
        "e",
        (leadership) => recorder.fenced("b", leadership, "counter")(kv.put("counter", "b"))
      )
    }).pipe(Effect.provideService(Kv.Kv, kv))
    yield* Deferred.succeed(proceed, undefined)
    yield* Fiber.join(stale)
    return { history: yield* recorder.history, counter: yield* kv.get("counter") }
  }))

// The operator's delete lets the second leader begin before the first one knows: only the fence protects.
const options: LockChecker.Options = { lateLossNanos: 3_600_000_000_000n }

describe("a leader that does not know of its loss", () => {
  it.live("has no write accepted after the next leader's", () =>
    Effect.gen(function*() {
      const { counter, history } = yield* staleLeader(true)
      assert.deepStrictEqual(history.holdings.map(({ client }) => client), ["a", "b"])
      assert.deepStrictEqual(history.effects.map(({ outcome }) => outcome), ["Rejected", "Accepted"])
      assert.deepStrictEqual(counter, Option.some("b"))
      assert.deepStrictEqual(kinds(LockChecker.check(history, options)), [])
    }))

  it.live("is found if its writes are not fenced", () =>
    Effect.gen(function*() {
      const { counter, history } = yield* staleLeader(false)
      assert.deepStrictEqual(counter, Option.some("a"))
      assert.include(kinds(LockChecker.check(history, options)), "StaleEffect")
    }))
})
