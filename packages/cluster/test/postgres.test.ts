/**
 * Runners in processes of their own on a real Postgres server: one is killed, one is stopped (SIGSTOP).
 */
import * as Kv from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { type Changes, PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { assertFenced } from "./support/assertFenced.ts"
import { fenced } from "./support/counters.ts"
import * as machineStalls from "./support/machineStalls.ts"
import { freezeOn, goals, incrementAll, violationsOf } from "./support/processScenarios.ts"
import { start } from "./support/runnerProcesses.ts"

const shards = 60

const all = (owned: number) => owned === shards

const half = (owned: number) => owned > shards / 6 && owned < shards * 5 / 6

interface Row extends Changes.Change {
  readonly key: string
}

/** The history of the store, by SQL that shares no code with the package. */
const history = Effect.flatMap(PgClient.PgClient, (sql) =>
  sql<Row>`
    select case version when 0 then 'delete' else 'put' end as type, convert_from(key, 'UTF8') as key,
      value as "valueBytes", revision as "modRevision", create_revision as "createRevision", version, lease
    from effect_kv.log order by revision, sub`)

it.live(
  "on Postgres, the shards of a killed runner have another owner in time, and no entity writes without its lock",
  () =>
    Effect.gen(function*() {
      const stalls = yield* machineStalls.measure
      const { url } = yield* PostgresServer.make()
      const store = yield* Layer.build(PostgresLayer.fromUrl(url))
      const launch = start({ endpoint: url, prefix: "x", shards })
      const [a, b] = yield* Effect.all([launch, launch])
      yield* a.begin
      yield* a.owns(all, 0)
      yield* b.begin
      yield* Effect.forEach([a, b], (runner) => runner.owns(half, 0))
      assert.isTrue((yield* incrementAll(b, "x-1")).every((how) => how === "1"))

      const killed = yield* a.signal("SIGKILL")
      const takeOver = yield* b.owns(all, killed)
      const stall = yield* stalls.during({ from: killed, to: killed + takeOver })
      assert.isTrue((yield* incrementAll(b, "x-2")).every((how) => how === "1"))
      assert.isAtMost(takeOver - stall, goals["after SIGKILL the other owns all"])

      const changes = yield* Effect.provideContext(history, store)
      assert.deepStrictEqual(violationsOf(changes, "x", fenced), [])
    }),
  60_000
)

it.live(
  "on Postgres, a runner that is stopped for longer than the expiration writes nothing more for the shards it lost",
  () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.make()
      const store = yield* Layer.build(PostgresLayer.fromUrl(url))
      assertFenced(
        yield* freezeOn({
          url,
          kv: Context.get(store, Kv.Kv),
          history: Effect.orDie(Effect.provideContext(history, store))
        })
      )
    }),
  60_000
)
