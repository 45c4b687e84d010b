/**
 * A server whose disk is full (ENOSPC), where it keeps its data or its log of writes (WAL), until there is space again.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer, Recorder, RevisionChecker, Violation } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Crypto from "node:crypto"
import { changesUpTo } from "./support/history.ts"
import { checked, record } from "./support/recorded.ts"
import { connect, database } from "./support/store.ts"
import { untilTrue } from "./support/until.ts"

const value = (): Uint8Array => Crypto.randomBytes(700_000)

describe("a Postgres server with a full disk", () => {
  it.live(
    "rejects the writes that have no space with a typed error, reads on, and accepts writes when there is space again",
    () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.PostgresServer
        const recorder = yield* Recorder.make
        const kv = Context.get(yield* connect(), Kv.Kv)
        const backend = recorder.client("a")(backendOf(kv))
        yield* backend.execute(Op.put("first", "1"))
        const pair = (i: number, deadline: Duration.Input) =>
          backend.execute(Op.txn({ then: [Op.put(`a/${i}`, value()), Op.put(`b/${i}`, value())] })).pipe(
            Deadline.within(deadline),
            Effect.result
          )
        assert.isTrue(Result.isSuccess(yield* pair(0, "20 seconds")))
        yield* server.fillDisk
        const reasons: Array<string> = []
        for (let i = 1; reasons.length < 3; i++) {
          const result = yield* pair(i, "1 second")
          // On a busy machine an attempt may be in flight at the deadline. The history shows what became of it.
          if (Result.isSuccess(result) || result.failure.reason._tag === "Indeterminate") continue
          reasons.push(result.failure.reason._tag)
        }
        assert.include(reasons, "QuotaExceeded")
        assert.isTrue(reasons.every((tag) => tag === "QuotaExceeded" || tag === "Unavailable"), `${reasons}`)
        assert.include(yield* server.log, "No space left on device")
        assert.deepStrictEqual(yield* kv.get("first"), Option.some("1"))
        yield* server.freeDisk
        assert.isTrue(Result.isSuccess(yield* pair(1000, "20 seconds")))
        const { revision } = yield* backend.execute(Op.put("last", "1"))
        const history = yield* recorder.history
        const { violations } = RevisionChecker.check(history, yield* changesUpTo(revision))
        assert.deepStrictEqual(violations, [], Violation.print(history, violations))
      }).pipe(
        Effect.scoped,
        Effect.provide(database),
        Effect.provide(PostgresServer.layer({ disk: { of: "data", megabytes: 64 } }))
      ),
    180_000
  )

  it.live(
    "loses nothing and applies nothing twice if it crashes because it cannot write its log, and its clients go on",
    () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.PostgresServer
        const hasCrashed = Effect.map(server.log, (log) => /PANIC.*No space left on device/.test(log))
        const sql = yield* PgClient.PgClient
        const run = yield* record({ operations: 50, locks: false }, ({ calls }) =>
          Effect.gen(function*() {
            yield* calls(150)
            yield* server.fillDisk
            // Until the log has used the space that it had.
            const fill = sql`select pg_logical_emit_message(false, 'filler', repeat('x', 1000000))`
            const filling = yield* Effect.forkChild(Effect.forever(Effect.ignore(fill)))
            yield* untilTrue("the server to crash", hasCrashed, { within: "50 seconds" })
            filling.interruptUnsafe()
            yield* server.freeDisk
            yield* server.restart
          }))
        checked(run)
      }).pipe(
        Effect.scoped,
        Random.withSeed("full disk"),
        Effect.provide(database),
        // The store's own writes wait for the disk all the same: otherwise the crash would lose the last ones.
        Effect.provide(
          PostgresServer.layer({ disk: { of: "log", megabytes: 48 }, settings: { synchronous_commit: "off" } })
        )
      ),
    180_000
  )
})
