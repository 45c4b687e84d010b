/**
 * SQL transactions of the application whose connection breaks: the rollback fails as well, and Effect's `withTransaction`
 * dies then, whatever the typed error was.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { isSqlError } from "effect/sql/SqlError"
import { behindProxy } from "./support/backends.ts"

/** As the README shows it. */
const typed = Effect.catchDefect((defect: unknown) =>
  KvError.isKvError(defect) || isSqlError(defect) ? Effect.fail(defect) : Effect.die(defect)
)

/** A transaction of a lock holder whose connection breaks before or after the fence. */
const broken = Effect.fnUntraced(function*(when: "before" | "after") {
  const { kv, pg, proxy, store } = yield* behindProxy({ connections: 5, background: true })
  yield* pg`drop table if exists invoice`
  yield* pg`create table invoice (name text not null)`
  const bill = pg.withTransaction(Effect.gen(function*() {
    yield* pg`insert into invoice (name) values ('broken')`
    if (when === "before") yield* proxy.cut
    yield* PostgresStore.fence
    yield* proxy.cut
    yield* pg`insert into invoice (name) values ('never')`
  })).pipe(Effect.provideContext(Context.make(PostgresStore.PostgresStore, store)))
  const locked = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.provideService(DistLock.withDistLock(effect, "billing"), Kv.Kv, kv)
  return { bill, locked, rows: pg`select name from invoice` }
})

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })(
  "a transaction whose connection breaks",
  (it) => {
    for (const [when, isExpected] of [["before", KvError.isKvError], ["after", isSqlError]] as const) {
      it.effect(`dies with the failure ${when} the fence first, and commits nothing`, () =>
        Effect.gen(function*() {
          const { bill, locked, rows } = yield* broken(when)
          const cause = yield* Effect.flip(Effect.sandbox(locked(bill)))
          const [first] = cause.reasons
          assert.isTrue(first !== undefined && Cause.isDieReason(first) && isExpected(first.defect), `${cause}`)
          assert.deepStrictEqual(yield* rows, [])
          // The lock is free again.
          yield* locked(Effect.void)
        }))

      it.effect(`whose failure ${when} the fence is made typed again fails with it`, () =>
        Effect.gen(function*() {
          const { bill, locked, rows } = yield* broken(when)
          assert.isTrue(isExpected(yield* Effect.flip(locked(typed(bill)))))
          assert.deepStrictEqual(yield* rows, [])
        }))
    }
  }
)
