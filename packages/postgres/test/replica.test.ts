/**
 * Serializable reads from a real streaming replica.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { connectTo, pair } from "./support/replication.ts"

const valueOf = (kv: Kv.Kv, options?: Kv.ReadOptions) => Effect.map(kv.get("a", options), Option.getOrUndefined)

describe("a replica of Postgres", () => {
  it.live(
    "answers serializable reads, also when it lags; what it cannot answer, the primary does",
    () =>
      Effect.gen(function*() {
        const { caughtUp, onStandby, primary, standby } = yield* pair
        const replica = PgClient.layer({ url: Redacted.make(standby.url) })
        const kv = Context.get(yield* connectTo(primary.port, { replica }), Kv.Kv)
        const first = yield* kv.put("a", "1")
        yield* caughtUp
        yield* onStandby`select pg_wal_replay_pause()`
        const second = yield* kv.put("a", "2")
        const range = yield* kv.range(KeyRange.key("a"), { serializable: true })
        assert.deepStrictEqual([range.entries[0]?.lossyText, range.revision], ["1", first.revision])
        assert.strictEqual(yield* valueOf(kv, { serializable: true }), "1")
        assert.strictEqual(yield* valueOf(kv), "2")
        const past = { serializable: true, revision: second.revision }
        assert.strictEqual(yield* valueOf(kv, past), "2", "the replica does not have this revision yet")
        yield* standby.pause
        assert.strictEqual(yield* Deadline.within(valueOf(kv, { serializable: true }), "3 seconds"), "2")
        yield* standby.resume
      }),
    60_000
  )

  it.live("of another history than the primary is not believed", () =>
    Effect.gen(function*() {
      const { caughtUp, onStandby, primary, standby } = yield* pair
      const replica = PgClient.layer({ url: Redacted.make(standby.url) })
      const kv = Context.get(yield* connectTo(primary.port, { replica }), Kv.Kv)
      yield* kv.put("a", "1")
      yield* caughtUp
      yield* onStandby`select pg_promote()`
      yield* (Context.get(yield* connectTo(standby.port), Kv.Kv)).put("a", "stray")
      assert.strictEqual(yield* valueOf(kv, { serializable: true }), "1")
    }), 60_000)
})
