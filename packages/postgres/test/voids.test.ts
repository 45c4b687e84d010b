/**
 * Writes that were declared void and arrive after their ids were deleted: they are rejected all the same, and so is
 * whatever else was sent without later knowledge. A client that is alive makes such a write again.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as PgTypes from "@effect/sql-pg/PgTypes"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as calls from "../src/internal/calls.ts"
import type { Connection } from "../src/internal/connection.ts"
import { Identity } from "../src/internal/identity.ts"
import { kind } from "../src/internal/schema/items.ts"
import { behindProxy, freeze, holding, lastStatement, untilBlocked, untilExecuted } from "./support/backends.ts"
import { createVersion1 } from "./support/schemas.ts"
import { connect, database } from "./support/store.ts"

const clientOf = (options: PostgresLayer.Options) => Effect.map(connect(options), Context.get(Kv.Kv))

const entryOf = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.getOrThrow)

/** The writes of a key that exists, one for each function of the schema. The same twice would write twice. */
const writes = {
  put_entries: (key: string) => Op.put(key, "1"),
  "put_entries, of two keys": (key: string) =>
    Op.txn({ if: [], then: [Op.put(key, "1"), Op.put(`${key}/2`, "1")], else: [] }),
  write_entry: (key: string, created: bigint) =>
    Op.txn({ if: [Compare.createRevision(key, "=", created)], then: [Op.put(key, "1")], else: [] }),
  write: (key: string, created: bigint) =>
    Op.txn({
      if: [Compare.createRevision(key, "=", created)],
      then: [Op.put(key, "1"), Op.put(`${key}/2`, "1")],
      else: []
    })
}

const executed = (kv: Kv.Kv, op: Op.Op): Effect.Effect<{ readonly revision: bigint }, KvError.KvError> =>
  op._tag === "Txn" ? kv.txn(op) : op._tag === "Put" ? kv.put(op.key, op.value) : Effect.die(op)

const id = "00000000-0000-4000-8000-000000000001"

/** Declares the id void, for a client that knew this revision. */
const declareVoid = (schema: string, since: bigint) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => sql.unsafe(`select * from ${schema}.resolve('${id}', ${since})`)
  )

/** Another client writes. */
const writeElsewhere = (schema: string) => Effect.flatMap(clientOf({ schema }), (kv) => kv.put("elsewhere", "1"))

/** Two hours pass, and all of the history can be cleaned. */
const pass2Hours = (schema: string) =>
  `with aged as (update ${schema}.void set created_at = created_at - interval '2 hours')
  update ${schema}.store set compacted = revision, pending = revision, cleanable = revision`

/** Two hours pass, and a client cleans: in one transaction, so that no other client does. */
const cleanLater = (schema: string) => `do $$ begin ${pass2Hours(schema)}; perform ${schema}.clean(1000000); end $$`

/** Returns how many ids are left. */
const clean2HoursLater = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(cleanLater(schema))
  const [row] = yield* sql.unsafe<{ readonly count: number }>(`select count(*)::int as count from ${schema}.void`)
  return row!.count
})

interface Store {
  readonly revision: bigint
  readonly epoch: bigint
}

const storeOf = (schema: string) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => Effect.map(sql.unsafe<Store>(`select revision, epoch from ${schema}.store`), (rows) => rows[0]!)
  )

/** All requests are rejected whose client knew less than this revision, or none. */
const rejectBefore = (schema: string, revision: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(`update ${schema}.store set oldest_known = ${revision}`))

/** A put with the id, by each function of the schema, of a client that knew the revision: 0 for none. */
const late = (schema: string, seen: bigint, epoch: bigint) => {
  const known = seen === 0n ? "null" : `${epoch}`
  return {
    put_entries: `select o_kind, o_revision, o_epoch
      from ${schema}.put_entries(array['late'::bytea], array['1'::bytea], '${id}', ${seen})`,
    "put_entries, of two keys": `select o_kind, o_revision, o_epoch
      from ${schema}.put_entries(array['late', 'later']::bytea[], array['1', '1']::bytea[], '${id}', ${seen})`,
    write_entry: `select o_kind, o_revision, o_epoch
      from ${schema}.write_entry('late', false, 0, 'late', '1', 0, null, null, '${id}', ${known}, ${seen})`,
    write: `select o_kind, o_modified as o_revision, o_lease as o_epoch
      from ${schema}.write('{"t":"p","k":1,"v":2,"kr":"${seen}"${seen === 0n ? "" : `,"ke":"${epoch}"`}}',
        array['late', '1']::bytea[], '${id}')`
  }
}

const isLateMissing = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.map(
      sql.unsafe(`select from ${schema}.entry where key in ('late', 'later')`),
      (rows) => assert.lengthOf(rows, 0)
    ))

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a write whose void id was deleted",
  (it) => {
    Object.entries(writes).forEach(([name, write], i) => {
      it.effect(`is applied once if its server process reads it only then: ${name}`, () =>
        Effect.gen(function*() {
          const schema = `frozen${i}`
          const sql = yield* PgClient.PgClient
          const { kv, pid, proxy } = yield* behindProxy({ schema })
          const created = (yield* kv.put("frozen", "0")).revision
          const last = yield* lastStatement(sql, pid)
          const thaw = yield* freeze(pid)
          const cut = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("frozen"), linger: "20 seconds" })
          const call = yield* Effect.forkChild(
            Deadline.within(executed(kv, write("frozen", created)), "20 seconds")
          )
          yield* cut.struck
          const { revision } = yield* Fiber.join(call)
          yield* writeElsewhere(schema)
          assert.strictEqual(yield* clean2HoursLater(schema), 0)
          yield* thaw
          yield* untilExecuted(sql, pid, last)
          const entry = yield* entryOf(kv, "frozen")
          assert.deepStrictEqual([entry.modRevision, entry.version], [revision, 2])
        }))
    })

    for (const knows of ["the revision", "an earlier revision", "no revision"]) {
      it.effect(`is rejected with the position of the store, if its client knew ${knows} at which it was declared void`, () =>
        Effect.gen(function*() {
          const schema = `knows_${knows.replaceAll(" ", "_")}`
          const sql = yield* PgClient.PgClient
          const kv = yield* clientOf({ schema })
          const earlier = yield* kv.put("k", "1")
          const declaredAt = (yield* kv.put("k", "2")).revision
          const seen = {
            "the revision": declaredAt,
            "an earlier revision": earlier.revision,
            "no revision": 0n
          }[knows]!
          const { epoch } = yield* storeOf(schema)
          yield* declareVoid(schema, seen)
          yield* writeElsewhere(schema)
          assert.strictEqual(yield* clean2HoursLater(schema), 0)
          const now = yield* storeOf(schema)
          for (const [name, statement] of Object.entries(late(schema, seen, epoch))) {
            assert.deepStrictEqual(
              yield* sql.unsafe(statement),
              [{ o_kind: kind.void, o_revision: now.revision, o_epoch: now.epoch }],
              name
            )
            yield* isLateMissing(schema)
          }
          // Also after a restart, which begins an epoch.
          for (const [name, statement] of Object.entries(late(schema, seen, epoch))) {
            yield* sql.unsafe(`update ${schema}.store set server_started = null`)
            const [row] = yield* sql.unsafe<{ readonly o_kind: number }>(statement)
            assert.strictEqual(row?.o_kind, kind.void, name)
            yield* isLateMissing(schema)
          }
          assert.strictEqual((yield* storeOf(schema)).revision, now.revision)
        }))
    }

    for (const isolation of ["read committed", "repeatable read", "serializable"]) {
      it.effect(`is rejected if it waits for the transaction that deletes the id, in ${isolation}`, () =>
        Effect.gen(function*() {
          const schema = `waits_${isolation.replace(" ", "_")}`
          const sql = yield* PgClient.PgClient
          const { url } = yield* PostgresServer.PostgresServer
          const waiting = yield* PgClient.make({
            url: Redacted.make(url),
            startupParameters: { default_transaction_isolation: isolation }
          })
          const kv = yield* clientOf({ schema })
          const seen = (yield* kv.put("k", "1")).revision
          const { epoch } = yield* storeOf(schema)
          for (const [name, statement] of Object.entries(late(schema, seen, epoch))) {
            yield* declareVoid(schema, seen)
            yield* kv.put("k", "2")
            const release = yield* holding(sql, cleanLater(schema))
            const call = yield* Effect.forkChild(Effect.result(waiting.unsafe<{ readonly o_kind: number }>(statement)))
            yield* untilBlocked(sql, "write")
            yield* release
            const result = yield* Fiber.join(call)
            if (result._tag === "Success") assert.strictEqual(result.success[0]?.o_kind, kind.void, name)
            else assert.notStrictEqual(isolation, "read committed", `${result.failure}`)
            yield* isLateMissing(schema)
          }
        }).pipe(Effect.provide(Reactivity.layer)))
    }

    it.effect("keeps its id while the store is at the revision at which it was declared, so that no other write is rejected", () =>
      Effect.gen(function*() {
        const schema = "present"
        const kv = yield* clientOf({ schema })
        const { revision } = yield* kv.put("k", "1")
        yield* declareVoid(schema, revision)
        assert.strictEqual(yield* clean2HoursLater(schema), 1)
        assert.strictEqual((yield* kv.put("k", "2")).revision, revision + 1n)
        assert.strictEqual((yield* entryOf(kv, "k")).version, 2)
      }))

    it.effect("does not make a client of version 1 fail, which does not say what it knows", () =>
      Effect.gen(function*() {
        const schema = "version1"
        const sql = yield* PgClient.PgClient
        yield* createVersion1(schema)
        const put = `select o_kind from ${schema}.write('{"t":"p","k":1,"v":2}', array['k', '1']::bytea[],
          gen_random_uuid())`
        yield* sql.unsafe(put)
        yield* sql.unsafe(PostgresSchema.script(schema))
        yield* declareVoid(schema, 2n)
        yield* sql.unsafe(put)
        assert.strictEqual(yield* clean2HoursLater(schema), 0)
        assert.deepStrictEqual(yield* sql.unsafe(put), [{ o_kind: kind.end }, { o_kind: kind.revision }])
      }))
  }
)

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a client that knows too little",
  (it) => {
    Object.entries(writes).forEach(([name, write], i) => {
      it.effect(`makes its write again, once: ${name}`, () =>
        Effect.gen(function*() {
          const schema = `knows_little${i}`
          const old = yield* clientOf({ schema, batching: false })
          const created = (yield* old.put("k", "0")).revision
          yield* writeElsewhere(schema)
          yield* rejectBefore(schema, "revision")
          const first = yield* executed(old, write("k", created))
          assert.deepStrictEqual([(yield* entryOf(old, "k")).modRevision, first.revision], [
            created + 2n,
            created + 2n
          ])
          yield* rejectBefore(schema, "revision")
          const fresh = yield* clientOf({ schema, batching: false })
          const second = yield* executed(fresh, write("k", created))
          assert.deepStrictEqual([(yield* entryOf(fresh, "k")).modRevision, second.revision], [
            created + 3n,
            created + 3n
          ])
          assert.strictEqual((yield* entryOf(fresh, "k")).version, 3)
        }))
    })

    it.effect("makes the transaction of a batch again, once", () =>
      Effect.gen(function*() {
        const schema = "batch"
        yield* writeElsewhere(schema)
        yield* rejectBefore(schema, "revision")
        const kv = yield* clientOf({ schema, batching: {} })
        const keys = Array.from({ length: 50 }, (_, i) => `batch/${i}`)
        const responses = yield* Effect.forEach(keys, (key) => kv.put(key, "1"), { concurrency: "unbounded" })
        for (const [i, key] of keys.entries()) {
          const entry = yield* entryOf(kv, key)
          assert.deepStrictEqual([entry.modRevision, entry.version], [responses[i]!.revision, 1])
        }
      }))

    it.effect("makes conditional writes under a lock again, once, and releases the lock", () =>
      Effect.gen(function*() {
        const schema = "locked"
        yield* writeElsewhere(schema)
        const kv = yield* clientOf({ schema })
        const other = yield* clientOf({ schema })
        const sectionOf = (client: Kv.Kv) =>
          Effect.gen(function*() {
            yield* other.put("elsewhere", "2")
            yield* rejectBefore(schema, "revision")
            yield* client.put("guarded", "1")
            yield* other.put("elsewhere", "3")
            yield* rejectBefore(schema, "revision")
          }).pipe(DistLock.withDistLock("lock"), Effect.provideService(Kv.Kv, client))
        yield* rejectBefore(schema, "revision")
        yield* sectionOf(kv)
        assert.strictEqual((yield* entryOf(kv, "guarded")).version, 1)
        yield* sectionOf(other)
        assert.strictEqual((yield* entryOf(kv, "guarded")).version, 2)
      }))

    it.effect("says so with a transaction, before its first response too", () =>
      Effect.sync(() => {
        const identity = new Identity()
        const knows = () => {
          const { params } = calls.write({ schema: "s" } as Connection, { json: {}, data: [] }, id, identity.sent)
          return (params[0] as PgTypes.Parameter).value
        }
        assert.deepStrictEqual(knows(), { kr: "0" })
        identity.observe({ epoch: 7n, revision: 8n }, identity.sent, "read")
        assert.deepStrictEqual(knows(), { ke: "7", kr: "8" })
      }))

    it.effect("does not repeat a write endlessly that is rejected although it knows the present revision", () =>
      Effect.gen(function*() {
        const schema = "endless"
        const kv = yield* clientOf({ schema, deadline: "1 hour" })
        yield* kv.put("k", "1")
        // No store is like this, whose row was not changed by hand.
        yield* rejectBefore(schema, "revision + 1000")
        const error = yield* Effect.flip(kv.put("k", "2"))
        assert.deepStrictEqual([error.reason._tag, error.outcome], ["Unavailable", "NotApplied"])
        assert.deepStrictEqual(yield* kv.get("k"), Option.some("1"))
      }))
  }
)
