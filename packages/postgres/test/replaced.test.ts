/**
 * A store that went back, as after a failover to a replica that lacks the last writes.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { behindProxy } from "./support/backends.ts"
import { connect, database } from "./support/store.ts"

/** Takes the store back to a revision. */
const goBack = (revision: bigint) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    sql.withTransaction(Effect.andThen(
      sql`delete from effect_kv.log where revision > ${revision}`,
      Effect.andThen(
        sql`delete from effect_kv.entry where mod_revision > ${revision}`,
        sql`update effect_kv.store set revision = ${revision}`
      )
    )))

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a store that went back",
  (it) => {
    it.effect("fails the call that notices and the open watches with StoreReplaced, and is used from then on", () =>
      Effect.gen(function*() {
        const kv = Context.get(yield* connect(), Kv.Kv)
        yield* kv.put("kept", "1")
        const { revision } = yield* kv.put("before", "1")
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.all })
        yield* kv.put("lost", "1")
        yield* kv.put("lost", "2")
        yield* goBack(revision)
        const error = yield* Effect.flip(kv.get("lost"))
        assert.strictEqual(error.reason._tag, "StoreReplaced")
        assert.include(error.message, `at revision ${revision}`)
        const takes = Effect.forever(watcher.take)
        assert.strictEqual((yield* Effect.flip(takes)).reason._tag, "StoreReplaced")
        assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
        assert.strictEqual((yield* kv.put("after", "1")).revision, revision + 1n)
      }))

    it.effect("does not apply a write twice whose response is lost before the client knows", () =>
      Effect.gen(function*() {
        const { kv, proxy } = yield* behindProxy()
        const { revision } = yield* kv.put("before", "1")
        for (const value of ["1", "2", "3"]) yield* kv.put("lost", value)
        yield* goBack(revision)
        yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("once"), linger: "200 millis" })
        const { reason } = yield* Effect.flip(kv.put("once", "1"))
        assert.deepStrictEqual([reason._tag, reason.outcome], ["StoreReplaced", "Unknown"])
        assert.strictEqual(Option.getOrThrow(yield* kv.getEntry("once")).version, 1)
      }))
  }
)
