/**
 * Optimistic writes among other writes of the same client to the same keys, on a store that takes a while to respond:
 * each of them succeeds after a few attempts.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

const turns = (count: number) => Effect.forEach(Array.from({ length: count }), () => Effect.yieldNow, { discard: true })

/** A backend whose requests take a while to reach the store, and whose responses take a while to arrive. */
const slow = (backend: KvBackend): KvBackend => {
  let seed = 1
  const delay = Effect.suspend(() => {
    seed = seed * 48271 % 2147483647
    return turns(1 + seed % 5)
  })
  return {
    ...backend,
    execute: (op) => Effect.andThen(delay, Effect.tap(backend.execute(op), () => delay))
  }
}

const make = Effect.fnUntraced(function*(isBatched: boolean) {
  const store = yield* MemoryStore.make()
  const backend = slow(yield* store.connect)
  return yield* Kv.make(isBatched ? Batching.batched()(backend) : backend)
})

const writes: Record<string, (kv: Kv.Kv, fiber: number) => Effect.Effect<unknown, unknown>> = {
  put: (kv, fiber) => kv.put("ns/k", `${fiber}`),
  "put and delete": (kv, fiber) => fiber % 2 === 0 ? kv.put("ns/k", `${fiber}`) : kv.delete("ns/k"),
  "delete of a range": (kv, fiber) =>
    fiber % 2 === 0 ? kv.put("ns/k", `${fiber}`) : kv.deleteRange(KeyRange.prefix("ns/")),
  transaction: (kv, fiber) => kv.txn({ if: [], then: [Op.put("ns/k", `${fiber}`), Op.put("other", "")] })
}

const optimistic: Record<string, (kv: Kv.Kv, attempted: () => void) => Effect.Effect<unknown, unknown>> = {
  modify: (kv, attempted) =>
    kv.modify("ns/k", () => {
      attempted()
      return "modified"
    }),
  "modify of a namespace": (kv, attempted) =>
    Kv.prefixed(kv, "ns/").modify("k", () => {
      attempted()
      return "modified"
    }),
  "atomically with a key": (kv, attempted) =>
    kv.atomically((t) =>
      Effect.gen(function*() {
        attempted()
        const text = yield* t.get("ns/k")
        yield* t.put("copy", Option.getOrElse(text, () => ""))
      })
    ),
  "atomically with a range": (kv, attempted) =>
    kv.atomically((t) =>
      Effect.gen(function*() {
        attempted()
        const entries = yield* t.list(KeyRange.prefix("ns/"))
        yield* t.put("copy", `${entries.length}`)
      })
    )
}

const mostAttempts = 6

const attemptsAmong = Effect.fnUntraced(function*(
  isBatched: boolean,
  fibers: number,
  write: (kv: Kv.Kv, fiber: number) => Effect.Effect<unknown, unknown>,
  run: (kv: Kv.Kv, attempted: () => void) => Effect.Effect<unknown, unknown>
) {
  const kv = yield* make(isBatched)
  for (let i = 0; i < fibers; i++) yield* Effect.forkScoped(Effect.forever(write(kv, i)))
  yield* turns(20)
  let attempts = 0
  const tooMany = yield* Deferred.make<void>()
  const attempted = () => {
    if (++attempts > mostAttempts) Deferred.doneUnsafe(tooMany, Effect.void)
  }
  yield* Effect.raceFirst(run(kv, attempted), Deferred.await(tooMany))
  return attempts
}, Effect.scoped)

describe("among other writes of their client to their keys, a few attempts succeed", () => {
  for (const [name, run] of Object.entries(optimistic)) {
    for (const isBatched of [true, false]) {
      it.effect(`${name}, ${isBatched ? "batched" : "unbatched"}`, () =>
        Effect.gen(function*() {
          for (const [kind, write] of Object.entries(writes)) {
            for (const fibers of [4, 40]) {
              const attempts = yield* attemptsAmong(isBatched, fibers, write, run)
              assert.isAtMost(attempts, mostAttempts, `${fibers} fibers, ${kind}`)
            }
          }
        }))
    }
  }
})
