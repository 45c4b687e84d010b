/**
 * A write of one key, for which the schema has a function of its own, while a lease is due that no client has ended yet:
 * what it finds is the store without the keys of that lease.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import { connect, database } from "./support/store.ts"
import { until } from "./support/until.ts"

/** A key whose lease has become due, in a store where no client ends it. */
const dueKey = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`drop schema if exists effect_kv cascade`
  const backend = backendOf(Context.get(yield* connect({ batching: false }), Kv.Kv))
  const lease = yield* backend.leaseGrant({ ttl: "1 hour" })
  const { revision } = yield* backend.execute(Op.put("q/old", "v", { lease: lease.id }))
  // A new client sweeps after half a second, and then not for five. If one ends the lease first, the results are the same.
  yield* Effect.sleep("700 millis")
  yield* sql`update effect_kv.lease set expires_at = clock_timestamp() - interval '1 second'`
  return { backend, created: revision, lease: lease.id }
})

const ifCreated = (key: string, revision: bigint, ...then: ReadonlyArray<Op.Op>) =>
  Op.txn({ if: [Compare.createRevision(key, "=", revision)], then, else: [] })

const newest = Op.range(KeyRange.prefix("q/"), {
  limit: 1,
  keysOnly: true,
  order: { by: "createRevision", direction: "descending" }
})

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a write of one key while a lease is due",
  (it) => {
    it.effect("creates the key that the lease has held, after its deletion", () =>
      Effect.gen(function*() {
        const { backend, created } = yield* dueKey
        const response = yield* backend.execute(ifCreated("q/old", 0n, newest, Op.put("q/old", "w")))
        assert(response._tag === "Txn" && response.succeeded)
        const [queue] = response.responses
        assert(queue?._tag === "Range")
        assert.deepStrictEqual([queue.count, queue.entries], [0, []])
        // The deletion has a revision of its own.
        assert.strictEqual(response.revision, created + 2n)
        const changes = yield* Effect.scoped(
          Effect.flatMap(backend.watch({ range: KeyRange.all, startRevision: created }), ({ take }) => take)
        )
        assert.deepStrictEqual(
          changes.map(({ events, revision }) => [revision - created, ...events.map(({ _tag }) => _tag)]),
          [[0n, "Put"], [1n, "Delete"], [2n, "Put"]]
        )
      }))

    it.effect("does not find a condition to hold that only the ended lease fulfils", () =>
      Effect.gen(function*() {
        const { backend, created } = yield* dueKey
        const response = yield* backend.execute(ifCreated("q/old", created, Op.put("q/old", "w")))
        assert(response._tag === "Txn" && !response.succeeded)
        assert.strictEqual(response.revision, created + 1n)
        const read = yield* backend.execute(Op.range(KeyRange.all))
        assert(read._tag === "Range")
        assert.deepStrictEqual([read.count, read.revision], [0, created + 1n])
      }))

    it.effect("deletes nothing that the lease has deleted", () =>
      Effect.gen(function*() {
        const { backend, created } = yield* dueKey
        const response = yield* backend.execute(Op.delete("q/old"))
        assert(response._tag === "Delete")
        assert.deepStrictEqual([response.deleted, response.revision], [0, created + 1n])
      }))

    it.effect("is rejected with LeaseNotFound if it is to be attached to the lease", () =>
      Effect.gen(function*() {
        const { backend, created, lease } = yield* dueKey
        const write = ifCreated("q/new", 0n, newest, Op.put("q/new", "w", { lease }))
        const { reason } = yield* Effect.flip(backend.execute(write))
        assert.strictEqual(reason._tag, "LeaseNotFound")
        const read = yield* backend.execute(Op.range(KeyRange.all))
        assert(read._tag === "Range")
        assert.deepStrictEqual([read.count, read.revision], [0, created + 1n])
      }))

    it.effect("reads the newest key of a range of several, also where plpgsql checks assignments strictly", () =>
      Effect.gen(function*() {
        const { url } = yield* PostgresServer.PostgresServer
        const pg = yield* PgClient.make({
          url: Redacted.make(url),
          startupParameters: { "plpgsql.extra_errors": "all" }
        }).pipe(Effect.provide(Reactivity.layer))
        const context = yield* Effect.provideService(
          connect({ batching: false, schema: "strict" }),
          PgClient.PgClient,
          pg
        )
        const backend = backendOf(Context.get(context, Kv.Kv))
        for (const [i, key] of ["q/1", "q/2", "q/3"].entries()) {
          const response = yield* backend.execute(ifCreated(key, 0n, newest, Op.put(key, "v")))
          assert(response._tag === "Txn" && response.succeeded && response.responses[0]?._tag === "Range")
          assert.strictEqual(response.responses[0].count, i)
        }
      }))

    it.effect("succeeds while more leases are due than end in its time", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { backend, created } = yield* dueKey
        const due = 100
        yield* sql.unsafe(`
          insert into effect_kv.lease
          select 1000000 + i, 60, clock_timestamp() - interval '1 second' from generate_series(1, ${due}) i`)
        // Each lease takes 100 milliseconds to end, so all of them would take ten seconds.
        yield* sql.unsafe(`
          create function effect_kv.slow() returns trigger language plpgsql
          as 'begin perform pg_sleep(0.1); return old; end'`)
        yield* sql.unsafe(
          "create trigger slow before delete on effect_kv.lease for each row execute function effect_kv.slow()"
        )
        for (
          const write of [
            Op.put("a", "v"),
            ifCreated("b", 0n, Op.put("b", "v")),
            Op.deleteRange(KeyRange.prefix("none/"))
          ]
        ) {
          const { revision } = yield* Deadline.within(backend.execute(write), "5 seconds")
          assert.isAbove(Number(revision), Number(created))
        }
        // The rest ends later.
        yield* sql.unsafe("alter table effect_kv.lease disable trigger slow")
        const count = sql<{ readonly left: number }>`select count(*)::int as left from effect_kv.lease`
        yield* until("all leases to end", count, ([row]) => row!.left === 0)
      }))
  }
)
