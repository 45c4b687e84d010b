/**
 * Calls and locks on Postgres, against a bare statement: `get` and `put`, one and 256 in flight; a lock without contention
 * against puts; and a lock that is handed over among clients that each have a pool of their own.
 *
 * Each is measured on a server as it is installed, which waits for its disk at each commit, and on one that does not
 * (`fsync = off`), which shows what the functions in the database and the client cost by themselves.
 */
import { DistLock, Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import type { Row } from "../Row.ts"
import type { Environment, PostgresKind, Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as postgres from "../subjects/postgres.ts"

const kinds: ReadonlyArray<PostgresKind> = ["durable", "volatile"]

const suffixOf = (kind: PostgresKind): string => kind === "durable" ? "" : "-no-fsync"

const perServer = (
  name: string,
  run: (
    name: string,
    url: string,
    environment: Environment
  ) => ReturnType<Scenario["run"]>
): ReadonlyArray<Scenario> =>
  kinds.map((kind): Scenario => ({
    name: `postgres-${name}${suffixOf(kind)}`,
    run: (environment) =>
      Effect.flatMap(
        environment.postgres(kind),
        ({ url }) => run(`postgres-${name}${suffixOf(kind)}`, url, environment)
      )
  }))

const callers = 256

const calls = (name: "get" | "put") =>
  perServer(
    name,
    Effect.fnUntraced(function*(scenario, url, { needed, options }) {
      const pg = yield* postgres.pool(url)
      const kv = yield* postgres.open(pg)
      for (let caller = 0; caller < callers; caller++) yield* kv.put(Calls.key(caller), Calls.value)
      const unbatched = yield* postgres.open(pg, { batching: false })
      yield* pg`drop table if exists bare`
      yield* postgres.createBare(pg, callers)
      const bareOnOne = yield* postgres.bareOnOne(pg, name)
      const bareOnPool = postgres.bareOnPool(pg, name)
      const call = (kv: Kv.Kv) => (caller: number): Effect.Effect<unknown, unknown> =>
        name === "get" ? kv.get(Calls.key(caller)) : kv.put(Calls.key(caller), Calls.value)
      const rows: Array<Row> = []
      for (const inFlight of [1, callers]) {
        const subjects: ReadonlyArray<Measure.Subject> = [
          ...(inFlight === 1 ? [{ name: "bare", effect: bareOnOne }] : []),
          { name: "bare, pool", effect: bareOnPool },
          { name: "effect-kv unbatched", effect: call(unbatched) },
          { name: "effect-kv", effect: call(kv) }
        ]
        const chosen = needed(inFlight, subjects)
        if (chosen.length > 0) rows.push(...yield* Measure.alternate(scenario, inFlight, chosen, options))
      }
      return rows
    })
  )

const lock = perServer(
  "lock",
  Effect.fnUntraced(function*(scenario, url, { needed, options }) {
    const kv = yield* postgres.openAlone(url)
    const subjects: ReadonlyArray<Measure.Subject> = [
      { name: "effect-kv put", effect: () => kv.put("bench/lock-put", Calls.value) },
      { name: "effect-kv", effect: () => takeAndRelease(kv, "bench/lock") }
    ]
    return yield* Measure.alternate(scenario, 1, needed(1, subjects), options)
  })
)

const handOver = perServer(
  "handover",
  Effect.fnUntraced(function*(scenario, url, { needed, options }) {
    const rows = yield* Effect.forEach([2, 8], (waiters) =>
      Effect.scoped(Effect.gen(function*() {
        const clients = yield* Effect.forEach(Array.from({ length: waiters }), () => postgres.openAlone(url))
        const subjects: ReadonlyArray<Measure.Subject> = [
          {
            name: "effect-kv",
            effect: (caller) => takeAndRelease(clients[caller]!, `bench/handover/${waiters}`)
          }
        ]
        return yield* Measure.alternate(scenario, waiters, needed(waiters, subjects), options)
      })))
    return rows.flat()
  })
)

const takeAndRelease = (kv: Kv.Kv, name: string) =>
  Effect.provideService(DistLock.withDistLock(Effect.void, name), Kv.Kv, kv)

export const all: ReadonlyArray<Scenario> = [...calls("get"), ...calls("put"), ...lock, ...handOver]
