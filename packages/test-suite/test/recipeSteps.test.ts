/**
 * Recipes that are interrupted, or lose a response, at each of their steps: nothing is left of them. Only on memory, because
 * there are hundreds of attempts. Locks, semaphores and read-write locks have such cases in the suite.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as Latch from "@effect-kv/core/Latch"
import * as Members from "@effect-kv/core/Members"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Slot from "@effect-kv/core/Slot"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { atEachStep, type Recipe } from "../src/conformance/cases/interruption.ts"
import { on } from "../src/conformance/cases/locking.ts"

/** Acquires in a scope that the returned effect closes. */
const holding = <A, E>(kv: Kv.Kv, acquire: Effect.Effect<A, E, Kv.Kv | Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(on(kv)(acquire), scope)
    return Scope.close(scope, Exit.void)
  })

/** Whether the attempt of this name is to wait. */
const isBlocked = (name: string): boolean => name.includes("/true/")

const nothing = () => Effect.void

const group = (name: string) => Members.join(name, { id: "m", value: "0", schema: Schema.String, onTaken: "wait" })

const recipes: ReadonlyArray<readonly [title: string, folder: string, recipe: Recipe]> = [
  ["a slot", "slot", {
    prepare: nothing,
    attempt: (kv, name) => on(kv)(Slot.use(name, nothing, { size: 1, acquireTimeout: "1 minute" })),
    block: (kv, name) => holding(kv, Slot.acquire(name, { size: 1 })),
    keysLeft: 0
  }],
  ["an election", "election", {
    prepare: nothing,
    attempt: (kv, name) => on(kv)(Election.use(name, ({ proclaim }) => proclaim("1"))),
    block: (kv, name) => holding(kv, Election.campaign(name)),
    keysLeft: 0
  }],
  ["a candidacy", "candidacy", {
    prepare: nothing,
    attempt: (kv, name) =>
      Effect.scoped(
        on(kv)(Effect.flatMap(
          Election.enter(name),
          ({ elected, proclaim }) => Effect.andThen(proclaim("1"), elected)
        ))
      ),
    block: (kv, name) => holding(kv, Election.campaign(name)),
    keysLeft: 0
  }],
  ["a member", "member", {
    prepare: nothing,
    attempt: (kv, name) => Effect.scoped(on(kv)(Effect.flatMap(group(name), ({ update }) => update("1")))),
    block: (kv, name) => holding(kv, group(name)),
    keysLeft: 0
  }],
  ["a step that is done once", "step", {
    // So that there is a record, whether the attempt is undone or not.
    prepare: (kv, name) => Effect.flip(on(kv)(RunOnce.forKey(name, () => Effect.fail("not yet")))),
    attempt: (kv, name) => on(kv)(RunOnce.forKey(name, nothing)),
    block: (kv, name) =>
      Effect.gen(function*() {
        const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<never, string>()]
        const run = () => Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
        yield* Effect.forkScoped(on(kv)(RunOnce.forKey(name, run)))
        yield* Deferred.await(begun)
        return Effect.asVoid(Deferred.fail(end, "it failed"))
      }),
    keysLeft: 1
  }],
  ["a barrier", "barrier", {
    prepare: (kv, name) => on(kv)(Barrier.reset(name)),
    attempt: (kv, name) =>
      Effect.scoped(
        on(kv)(Barrier.enter(name, { parties: isBlocked(name) ? 2 : 1, id: "a", onLate: "next", onDeath: "ignore" }))
      ),
    block: (kv, name) =>
      Effect.map(
        Effect.scope,
        (scope) =>
          Effect.scoped(on(kv)(Barrier.enter(name, { parties: 2, id: "b", onLate: "next", onDeath: "ignore" }))).pipe(
            Effect.timeoutOption("2 seconds"),
            Effect.forkIn(scope),
            Effect.asVoid
          )
      ),
    keysLeft: 1
  }],
  ["a latch", "latch", {
    prepare: (kv, name) => isBlocked(name) ? Effect.void : on(kv)(Latch.countDown(name, { id: "a" })),
    attempt: (kv, name) => on(kv)(Latch.await(name, { count: 1 })),
    block: (kv, name) => Effect.succeed(Effect.orDie(on(kv)(Latch.countDown(name, { id: "a" })))),
    keysLeft: 1
  }]
]

const store = Effect.gen(function*() {
  const memory = yield* MemoryStore.make()
  return KvConformance.Store.of({
    client: Effect.flatMap(memory.connect, Kv.make),
    compact: memory.compact,
    passTime: (duration) => TestClock.adjust(duration),
    limits: KvConformance.defaultLimits
  })
})

const layer = Layer.effect(KvConformance.Store, store).pipe(Layer.provideMerge(TestClock.layer()))

describe("nothing is left of", () => {
  for (const [title, folder, recipe] of recipes) {
    for (const how of ["interrupted", "without a response"] as const) {
      it.live(`${title} that is ${how} at any step`, () =>
        Effect.gen(function*() {
          const kv = yield* Effect.flatMap(KvConformance.Store, ({ client }) => client)
          const struck = yield* atEachStep(kv, `steps/${folder}/${how}`, recipe, how)
          assert.isAtLeast(struck, folder === "latch" ? 4 : 8)
        }).pipe(Effect.scoped, Effect.provide(layer)), 60_000)
    }
  }
})
