/**
 * A process that bills under a lock: `node biller.ts URL NAME fenced|unfenced`.
 *
 * It prints `held`, and bills when it is told to, on its standard input. The body cannot be interrupted, as work that
 * does not check for interruption cannot. At the end it prints how the transaction ended.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Readline from "node:readline"

const [url = "", name = "", fenced] = process.argv.slice(2)

const report = (line: string) => Effect.sync(() => console.log(line))

const told = Effect.callback<void>((resume) => {
  const input = Readline.createInterface({ input: process.stdin })
  input.once("line", () => {
    input.close()
    resume(Effect.void)
  })
})

const bill = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* report("held")
  yield* told
  yield* sql.withTransaction(Effect.gen(function*() {
    if (fenced === "fenced") yield* PostgresStore.fence
    yield* sql`insert into invoice (name) values (${name})`
  })).pipe(Effect.matchEffect({
    onFailure: (error) => report(`rejected ${"reason" in error ? error.reason._tag : "?"}`),
    onSuccess: () => report("accepted")
  }))
})

await Effect.runPromise(
  Effect.uninterruptible(bill).pipe(
    DistLock.withDistLock("billing", { ttl: "2 seconds" }),
    Effect.exit,
    Effect.provide(PostgresLayer.fromUrl(url)),
    Effect.provideService(References.MinimumLogLevel, "None")
  )
)
process.exit(0)
