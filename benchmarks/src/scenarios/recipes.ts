/**
 * Recipes on the lock's queue, on etcd: elections and semaphores against the lock, entered and left without contention; and
 * permits handed over among waiters that share clients.
 */
import { DistLock, DistSemaphore, Election, Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as effectKv from "../subjects/effectKv.ts"

export const uncontended: Scenario = {
  name: "recipes",
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const semaphore = yield* semaphoreOf(kv, "bench/recipes-semaphore", 8)
    const subject = (name: string, effect: Effect.Effect<unknown, unknown, Kv.Kv | Scope.Scope>): Measure.Subject => {
      const op = Effect.provideService(Effect.scoped(effect), Kv.Kv, kv)
      return { name, effect: () => op }
    }
    const subjects = [
      subject("withDistLock", DistLock.withDistLock(Effect.void, "bench/recipes-lock")),
      subject("Election.use", Election.use("bench/recipes-election", () => Effect.void, { value })),
      subject("withPermits", semaphore.withPermits(1)(Effect.void)),
      subject("acquire", DistLock.acquire("bench/recipes-lock")),
      subject(
        "campaign, resign",
        Effect.flatMap(Election.campaign("bench/recipes-election", { value }), ({ resign }) => resign)
      )
    ]
    return yield* Measure.alternate("recipes", 1, needed(1, subjects), moreRounds(options))
  })
}

/**
 * Goals of a few percent need more pairs than a machine with noise gives in five rounds: the ratios of single rounds
 * differ by a third.
 */
const moreRounds = ({ millis, rounds }: Measure.Options): Measure.Options => ({
  rounds: 12 * rounds,
  millis: millis / 4
})

/** The proposal of a candidate. */
const value = "10.0.0.7:8080"

const waiters = 64
const clientsOfWaiters = 8

/** Each caller acquires one permit, releases it and waits again. An operation is a release. */
export const permitsHandOver: Scenario = {
  name: "semaphore-handover",
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints } = yield* etcd
    const clients = yield* Effect.forEach(
      Array.from({ length: clientsOfWaiters }),
      () => effectKv.open(endpoints)
    )
    const subjects = yield* Effect.forEach([1, 8], (permits) =>
      Effect.map(
        Effect.forEach(clients, (kv) => semaphoreOf(kv, `bench/permits-handover/${permits}`, permits)),
        (semaphores): Measure.Subject => {
          const ops = semaphores.map((semaphore) => semaphore.withPermits(1)(Effect.void))
          return {
            name: permits === 1 ? "1 permit" : `${permits} permits`,
            effect: (caller) => ops[caller % ops.length]!
          }
        }
      ))
    return yield* Measure.alternate("semaphore-handover", waiters, needed(waiters, subjects), options)
  })
}

const semaphoreOf = (kv: Kv.Kv, name: string, permits: number) =>
  Effect.provideService(DistSemaphore.make(name, { permits }), Kv.Kv, kv)
