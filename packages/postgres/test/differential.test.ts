/**
 * A differential test of memory and Postgres: random programs must have the same results on both.
 *
 * `EFFECT_KV_DIFFERENTIAL_RUNS` sets the number of programs.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { Differential } from "@effect-kv/test-suite/conformance"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { connect, database } from "./support/store.ts"

const memory = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  return { kv, compact: store.compact }
})

const postgres = Effect.map(connect(), (context) => ({
  kv: Context.get(context, Kv.Kv),
  compact: Context.get(context, PostgresStore.PostgresStore).compact
}))

const runs = Number(process.env["EFFECT_KV_DIFFERENTIAL_RUNS"] ?? 300)

describe("memory and Postgres", () => {
  it.live(`${runs} random programs have the same results on memory and Postgres`, () =>
    Effect.gen(function*() {
      yield* Differential.check({ memory: yield* memory, postgres: yield* postgres }, { runs })
    }).pipe(Effect.provide(database), Effect.provide(PostgresServer.layer())), 60_000 + 1000 * runs)
})
