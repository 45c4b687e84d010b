/**
 * A view of an inventory during outages: it keeps what it knew, says since when, and misses nothing afterwards.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Inventory from "@effect-kv/core/Inventory"
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const holdersOf = ({ queues }: Inventory.Snapshot): ReadonlyArray<string> =>
  queues.flatMap(({ contenders }) => contenders.map(({ description }) => description))

for (const compacted of [false, true]) {
  it.effect(
    `A view that is cut off keeps the last inventory and is current again afterwards, ${
      compacted ? "even if history was compacted" : "from where it was"
    }`,
    () =>
      Effect.gen(function*() {
        const store = yield* MemoryStore.make()
        const faults = yield* KvFaults.make(yield* store.connect)
        const operator = yield* Kv.make(yield* store.connect)
        const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)
        const view = yield* on(faults.kv)(Inventory.view())
        const becomes = (holds: (snapshot: Inventory.Snapshot) => boolean) =>
          Effect.map(Stream.runHead(Stream.filter(view.changes, holds)), Option.getOrThrow)
        const scope = yield* Scope.make()
        yield* DistLock.acquire("nightly", { description: "a" }).pipe(on(operator), Scope.provide(scope))
        yield* becomes((snapshot) => holdersOf(snapshot).join() === "a")

        yield* faults.partition()
        yield* TestClock.adjust("1 second")
        const cut = yield* becomes(({ staleSince }) => Option.isSome(staleSince))
        assert.deepStrictEqual(holdersOf(cut), ["a"])
        assert.isAtMost(DateTime.toEpochMillis(Option.getOrThrow(cut.staleSince)), 1000)

        yield* Scope.close(scope, Exit.void)
        yield* DistLock.acquire("nightly", { description: "b" }).pipe(on(operator))
        const { revision } = yield* operator.put("data/other", "x".repeat(1000))
        if (compacted) yield* store.compact(revision)
        assert.deepStrictEqual(holdersOf(yield* view.snapshot), ["a"])

        yield* faults.heal
        yield* TestClock.adjust("5 seconds")
        const healed = yield* becomes(({ staleSince }) => Option.isNone(staleSince))
        assert.deepStrictEqual(holdersOf(healed), ["b"])
        assert.strictEqual(healed.revision, revision)
      }).pipe(Effect.scoped)
  )
}
