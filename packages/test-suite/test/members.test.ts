/**
 * Members under random faults: whatever happened, every view ends with what the store contains.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Members from "@effect-kv/core/Members"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { oneOf } from "../src/internal/choices.ts"

const kinds = [
  "join",
  "leave",
  "update",
  "partition",
  "heal",
  "cut",
  "compact",
  "expire",
  "delete",
  "garbage",
  "wait"
] as const

interface Step {
  readonly do: (typeof kinds)[number]
  readonly client: number
  readonly id: string
}

const program: Arbitrary.Arbitrary<ReadonlyArray<Step>> = Arbitrary.array(
  Arbitrary.all({ do: oneOf(kinds), client: oneOf([0, 1, 2]), id: oneOf(["a", "b", "c", "d"]) })
)

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const run = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const store = yield* MemoryStore.make()
  const operator = yield* Effect.flatMap(store.connect, Kv.make)
  const clients = yield* Effect.forEach(
    [0, 1, 2],
    () => Effect.flatMap(store.connect, (backend) => KvFaults.make(backend, { deadline: "1 second" }))
  )
  const views = yield* Effect.forEach(clients, ({ kv }) => on(kv)(Members.view("api", Schema.String)))
  const members = new Map<string, { readonly scope: Scope.Closeable; member?: Members.Member<string> }>()
  let values = 0

  for (const { client: i, do: what, id } of steps) {
    const client = clients[i]!
    const known = members.get(`${i} ${id}`)
    switch (what) {
      case "join": {
        if (known !== undefined) break
        const scope = yield* Scope.fork(yield* Effect.scope)
        const joined: { readonly scope: Scope.Closeable; member?: Members.Member<string> } = { scope }
        members.set(`${i} ${id}`, joined)
        yield* Members.join("api", { id, value: `${++values}`, schema: Schema.String, ttl: "2 seconds" }).pipe(
          on(client.kv),
          Scope.provide(scope),
          Effect.tap((member) => Effect.sync(() => joined.member = member)),
          Effect.forkIn(scope)
        )
        break
      }
      case "leave":
        members.delete(`${i} ${id}`)
        if (known !== undefined) yield* Effect.forkScoped(Scope.close(known.scope, Exit.void))
        break
      case "update":
        if (known?.member !== undefined) yield* Effect.forkScoped(known.member.update(`${++values}`))
        break
      case "partition":
        yield* client.partition({ requests: values % 2 === 0 ? "refused" : "lost" })
        break
      case "heal":
        yield* client.heal
        break
      case "cut":
        yield* client.cutWatches({ duration: "300 millis" })
        break
      case "compact":
        yield* client.cutWatches({ compacted: true })
        break
      case "expire":
        yield* TestClock.adjust("3 seconds")
        break
      case "delete":
        yield* operator.delete(`api/${id}`)
        break
      case "garbage":
        yield* operator.put("api/garbage", `${++values} is not JSON of a string`)
        break
      case "wait":
        yield* TestClock.adjust("200 millis")
        break
    }
    yield* Effect.yieldNow
  }

  for (const client of clients) yield* client.heal
  // The longest waits: a request in flight, and a lease of a member that left in a partition.
  for (let i = 0; i < 60; i++) yield* TestClock.adjust("250 millis")
  const { entries } = yield* operator.range(KeyRange.prefix("api/"))
  const stored = entries.map(({ key, lossyText }) => [key, lossyText])
  for (const view of views) {
    const snapshot = yield* view.snapshot
    assert.deepStrictEqual(
      [...snapshot.members].map(([id, value]) => [
        `api/${id}`,
        Result.isSuccess(value)
          ? JSON.stringify(value.success)
          : `${entries.find(({ key }) => key === `api/${id}`)?.lossyText}`
      ]),
      stored
    )
    assert.deepStrictEqual(snapshot.staleSince, Option.none())
  }
  // Who is a member, is listed; who has left, is not; and no member is without a lease.
  const ids = new Set([...members.keys()].map((key) => key.split(" ")[1]!))
  assert.deepStrictEqual(
    entries.filter(({ key }) => key !== "api/garbage").map(({ key }) => key),
    [...ids].sort().map((id) => `api/${id}`)
  )
  for (const { key, lease } of entries) assert.strictEqual(Option.isSome(lease), key !== "api/garbage", key)
})

describe("members", () => {
  it.effect(
    "after any sequence of joins, leaves, updates, cuts and losses, every view equals the store",
    () =>
      Effect.gen(function*() {
        const result = yield* Arbitrary.checkEffect(
          program,
          (steps) => Effect.as(Effect.provide(Effect.scoped(run(steps)), TestClock.layer()), true),
          { runs: 60, size: 25 }
        )
        if (result._tag !== "Passed") assert.fail(Arbitrary.formatCheckFailure(result))
      }),
    60_000
  )
})
