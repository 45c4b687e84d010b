import * as PgClient from "@effect/sql-pg/PgClient"
import * as Kv from "@effect-kv/core/Kv"
import { KeyRange, Op, TempKey } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { Effect, Layer, Redacted, Stream, Option, Fiber, Context } from "effect"
const program = Effect.gen(function*() {
  const server = yield* PostgresServer.make()
  const pg = PgClient.layer({ url: Redacted.make(server.url), maxConnections: 60 })
  yield* Effect.gen(function*() {
    let bad = 0
    const open = Effect.map(Layer.build(Layer.fresh(PostgresLayer.layer())), Context.get(Kv.Kv))
    const one = (n: number) => Effect.scoped(Effect.gen(function*() {
      const kv = yield* open
      for (let i = 0; i < 20; i++) {
        const k = `k${n}/${i}`
        const { revision } = yield* kv.put(k, "0")
        const w = yield* Effect.scoped(Effect.gen(function*() {
          const watcher = yield* backendOf(kv).watch({ range: KeyRange.key(k), startRevision: revision + 1n })
          const got: Array<string> = []
          const f = yield* Effect.forkChild(Effect.gen(function*() { while (got.length < 2) for (const r of yield* watcher.take) for (const e of r.events) got.push(e._tag) }))
          if (i % 3 === 0) yield* Effect.sleep(i)
          yield* kv.put(k, "1")
          if (i % 2 === 0) yield* Effect.sleep(i)
          yield* kv.delete(k)
          yield* Fiber.join(f).pipe(Effect.timeoutOption("5 seconds"))
          return got
        }))
        if (w.join() !== "Put,Delete") { bad++; console.log(k, w) }
      }
    }))
    yield* Effect.forEach([1,2,3,4,5,6], one, { concurrency: "unbounded" })
    console.log("bad", bad)
  }).pipe(Effect.scoped, Effect.provide(pg))
}).pipe(Effect.scoped)
Effect.runPromise(program as never).then(() => {}, (e) => { console.error(e); })
