/**
 * Recipes whose names extend each other, all in use at once: none sees, blocks or counts what belongs to another.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Counter from "@effect-kv/core/Counter"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvCollection from "@effect-kv/core/KvCollection"
import * as Latch from "@effect-kv/core/Latch"
import * as Members from "@effect-kv/core/Members"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Sequence from "@effect-kv/core/Sequence"
import * as Slot from "@effect-kv/core/Slot"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { oneOf } from "./arbitraries.ts"

/** Uses a recipe under a name, and returns what a check of it finds and should find while all others are in use. */
type Use = (name: string) => Effect.Effect<
  Effect.Effect<readonly [found: unknown, expected: unknown], unknown, Kv.Kv | Scope.Scope>,
  unknown,
  Kv.Kv | Scope.Scope
>

const atOnce = { acquireTimeout: 0 }

const lock: Use = (name) =>
  Effect.map(DistLock.acquire(name, atOnce), ({ key }) =>
    Effect.map(
      Effect.all([DistLock.holder(name), DistLock.waiters(name)]),
      ([holder, waiters]) => [[Option.map(holder, (holder) => holder.key), waiters], [Option.some(key), []]]
    ))

const election: Use = (name) =>
  Effect.map(
    Election.campaign(name, atOnce),
    ({ key }) => Effect.map(Election.candidates(name), (candidates) => [candidates.map(({ key }) => key), [key]])
  )

const group: Use = (name) =>
  Effect.map(Members.join(name, { id: "m", value: name, schema: Schema.String }), () =>
    Effect.gen(function*() {
      const view = yield* Members.view(name, Schema.String)
      return [[...(yield* view.snapshot).members], [["m", Result.succeed(name)]]]
    }))

const collection: Use = (name) =>
  Effect.gen(function*() {
    const items = yield* KvCollection.make(`${name}/`, { key: Schema.String, value: Schema.String })
    yield* items.put("item", name)
    return Effect.map(items.list, (list) => [list.map(Result.map(({ value }) => value)), [Result.succeed(name)]])
  })

const others: ReadonlyArray<Use> = [
  (name) =>
    Effect.map(
      DistRwLock.acquireWrite(name, atOnce),
      ({ key }) => Effect.map(DistRwLock.contenders(name), (contenders) => [contenders.map(({ key }) => key), [key]])
    ),
  (name) =>
    Effect.gen(function*() {
      const semaphore = yield* DistSemaphore.make(name, { permits: 1 })
      const permits = yield* semaphore.acquire(1, atOnce)
      return Effect.map(semaphore.holders, (holders) => [holders.map(({ key }) => key), [permits.key]])
    }),
  (name) =>
    Effect.map(
      Slot.acquire(name, { size: 2 }),
      (first) => Effect.map(Slot.acquire(name, { size: 2 }), (second) => [[first.index, second.index], [0, 1]])
    ),
  (name) =>
    Effect.as(
      Latch.countDown(name, { id: "a/b" }),
      Effect.map(Latch.arrived(name), (arrived) => [arrived, ["a/b"]])
    ),
  (name) =>
    Effect.map(
      Effect.forkScoped(Barrier.enter(name, { parties: 2, id: "a/b" }), { startImmediately: true }),
      (first) =>
        Effect.gen(function*() {
          const second = yield* Barrier.enter(name, { parties: 2, id: "c" })
          return [[yield* Fiber.join(first), second], [0, 0]]
        })
    ),
  (name) =>
    Effect.gen(function*() {
      const counter = yield* Counter.make(name)
      yield* counter.add(1)
      return Effect.map(counter.get, (sum) => [sum, 1n])
    }),
  (name) =>
    Effect.gen(function*() {
      const dense = yield* Sequence.dense(name)
      const first = yield* dense.next
      yield* Sequence.next(name)
      return Effect.map(dense.next, (second) => [[first, second], [1n, 2n]])
    }),
  (name) =>
    Effect.map(
      RunOnce.forKey(name, () => Effect.succeed(name)),
      (first) =>
        Effect.map(RunOnce.forKey(name, () => Effect.succeed(name)), (second) => [
          [first, second],
          [Option.some(name), Option.none()]
        ])
    )
]

const segment = oneOf(["a", "a2", "b", "run", "done", "", "0", "00", "p:a", "left", "2"])

/** Most of them extend `a`, which is always among the names. */
const name: Arbitrary.Arbitrary<string> = Arbitrary.map(
  Arbitrary.all({ first: oneOf(["a", "a", "a", "a2", ""]), rest: Arbitrary.array(segment, { maxLength: 2 }) }),
  ({ first, rest }) => [first, ...rest].join("/") || "a/"
)

const names = Arbitrary.map(
  Arbitrary.array(name, { minLength: 2, maxLength: 5 }),
  (names) => [...new Set(["a", ...names])]
)

describe("recipes whose names extend each other do not interfere", () => {
  const queuesAndData = {
    "beside a lock of each name": lock,
    "beside an election of each name": election,
    "beside a group of each name": group,
    "beside a collection of each name": collection
  }
  for (const [title, use] of Object.entries(queuesAndData)) {
    it.effect.prop(title, [names], ([names]) =>
      Effect.gen(function*() {
        const store = yield* MemoryStore.make()
        const client = Effect.flatMap(store.connect, Kv.make)
        const uses = names.flatMap((name) => [use, ...others].map((use) => [name, use] as const))
        const checks = yield* Effect.forEach(uses, ([name, use]) =>
          Effect.flatMap(client, (kv) =>
            Effect.map(
              Effect.provideService(use(name), Kv.Kv, kv),
              (check) => [name, Effect.provideService(check, Kv.Kv, kv)] as const
            )))
        for (const [name, check] of checks) {
          const [found, expected] = yield* check
          assert.deepStrictEqual(found, expected, `${JSON.stringify(name)} of ${JSON.stringify(names)}`)
        }
      }).pipe(Effect.scoped), { arbitrary: { runs: 8 }, timeout: 60_000 })
  }
})
