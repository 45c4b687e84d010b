/**
 * Races between a write and the search for its outcome: whatever becomes of the statement, the write is applied once.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  administrator,
  behindProxy,
  freeze,
  holding,
  lastStatement,
  untilBlocked,
  untilExecuted,
  untilProcess,
  untilRows
} from "./support/backends.ts"
import { until } from "./support/until.ts"

const row = "select from effect_kv.store for update"

const entryOf = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.getOrThrow)

/** Fails unless the write succeeded, and wrote once. */
const isAppliedOnce = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  key: string,
  write: Fiber.Fiber<{ readonly revision: bigint }, unknown>
) {
  const { revision } = yield* Fiber.join(write)
  const entry = yield* entryOf(kv, key)
  assert.deepStrictEqual([entry.modRevision, entry.version], [revision, 1])
})

const put = (kv: Kv.Kv, key: string) => Effect.forkChild(Deadline.within(kv.put(key, "v"), "20 seconds"))

/** The standby does not exist. With `synchronous_commit = on`, the response to a commit waits for it, the commit does not. */
const settings = { synchronous_standby_names: "none", synchronous_commit: "local" }

layer(PostgresServer.layer({ settings }), { excludeTestServices: true, timeout: "1 minute" })(
  "races of writes",
  (it) => {
    it.effect("a put that waits for another writer when its connection breaks is applied once", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv, proxy } = yield* behindProxy()
        const release = yield* holding(sql, row)
        const write = yield* put(kv, "waits")
        yield* untilBlocked(sql, "write")
        yield* proxy.cut
        yield* untilBlocked(sql, "resolve")
        yield* release
        yield* isAppliedOnce(kv, "waits", write)
      }))

    it.effect("a put that its server process reads only after the outcome was looked up is applied once", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv, pid, proxy } = yield* behindProxy()
        const last = yield* lastStatement(sql, pid)
        const thaw = yield* freeze(pid)
        const cut = yield* proxy.cutAfterForwarding({ linger: "20 seconds" })
        const write = yield* put(kv, "late")
        yield* cut.struck
        yield* isAppliedOnce(kv, "late", write)
        yield* thaw
        yield* untilExecuted(sql, pid, last)
        yield* isAppliedOnce(kv, "late", write)
      }))

    for (const isolation of ["read committed", "repeatable read", "serializable"]) {
      it.effect(`a put that began before it was declared void is rejected, in ${isolation}`, () =>
        Effect.gen(function*() {
          const sql = yield* administrator
          const { kv, pid, proxy } = yield* behindProxy({ session: { default_transaction_isolation: isolation } })
          const last = yield* lastStatement(sql, pid)
          yield* sql`delete from effect_kv.void`
          // It waits for the table, and has its snapshot already.
          const release = yield* holding(sql, "lock table effect_kv.store in access exclusive mode")
          yield* proxy.cutAfterForwarding({ linger: "20 seconds" })
          const write = yield* put(kv, isolation)
          yield* untilBlocked(sql, "write")
          yield* untilBlocked(sql, "resolve")
          yield* proxy.blackhole({ direction: "toClient" })
          const thaw = yield* freeze(pid)
          yield* release
          yield* untilRows(sql, "an id that is declared void", sql`select from effect_kv.void`)
          yield* thaw
          yield* untilExecuted(sql, pid, last)
          assert.deepStrictEqual(
            yield* sql`select from effect_kv.entry where key = ${new TextEncoder().encode(isolation)}`,
            []
          )
          yield* proxy.heal
          yield* isAppliedOnce(kv, isolation, write)
        }))

      it.effect(`a put with a lease that is revoked while it waits is rejected, in ${isolation}`, () =>
        Effect.gen(function*() {
          const sql = yield* administrator
          const { kv, pid } = yield* behindProxy({ session: { default_transaction_isolation: isolation } })
          const other = yield* behindProxy({ session: { default_transaction_isolation: isolation } })
          const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
          const release = yield* holding(sql, "lock table effect_kv.store in access exclusive mode")
          const write = yield* Effect.forkChild(
            kv.put(`leased in ${isolation}`, "v", { lease: id }).pipe(Deadline.within("20 seconds"))
          )
          yield* untilBlocked(sql, "write")
          const revoke = yield* Effect.forkChild(
            backendOf(other.kv).leaseRevoke(id).pipe(Deadline.within("20 seconds"))
          )
          yield* untilBlocked(sql, "revoke_lease")
          const thaw = yield* freeze(pid)
          yield* release
          yield* Fiber.join(revoke)
          yield* thaw
          assert.strictEqual((yield* Effect.flip(Fiber.join(write))).reason._tag, "LeaseNotFound")
          assert.deepStrictEqual(yield* other.kv.get(`leased in ${isolation}`), Option.none())
        }))
    }

    for (const end of ["pg_terminate_backend", "pg_cancel_backend"]) {
      it.effect(`a put that ${end} ends while it waits is made again, once`, () =>
        Effect.gen(function*() {
          const sql = yield* administrator
          const { kv, pid } = yield* behindProxy()
          const release = yield* holding(sql, row)
          const write = yield* put(kv, end)
          yield* untilBlocked(sql, "write")
          yield* sql.unsafe(`select ${end}(${pid})`)
          yield* untilBlocked(sql, "resolve")
          yield* release
          yield* isAppliedOnce(kv, end, write)
        }))
    }

    it.effect("a put that statement_timeout ends is made again, once", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv } = yield* behindProxy({ session: { statement_timeout: "300ms" } })
        const release = yield* holding(sql, row)
        const write = yield* put(kv, "timeout")
        yield* untilBlocked(sql, "write")
        yield* untilBlocked(sql, "resolve")
        yield* release
        yield* isAppliedOnce(kv, "timeout", write)
      }))

    it.effect("a put that transaction_timeout ends is made again, once", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv } = yield* behindProxy({ session: { transaction_timeout: "300ms" } })
        const release = yield* holding(sql, row)
        const write = yield* put(kv, "timeout of the transaction")
        yield* untilBlocked(sql, "write")
        yield* untilBlocked(sql, "resolve")
        yield* release
        yield* isAppliedOnce(kv, "timeout of the transaction", write)
      }))

    it.effect("a put is applied once if the response is lost, and then the response to the search for its outcome", () =>
      Effect.gen(function*() {
        const { kv, proxy } = yield* behindProxy()
        for (
          const [key, fault] of [["applied", proxy.cutAfterForwarding], ["resent", proxy.cutBeforeForwarding]] as const
        ) {
          yield* fault({ when: TcpProxy.contains(key) })
          const searched = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains(".resolve(") })
          const write = yield* put(kv, key)
          yield* searched.struck
          yield* isAppliedOnce(kv, key, write)
        }
      }))

    it.effect("a put that its server has committed when it crashes is found, and one that it has not is made again", () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.PostgresServer
        const sql = yield* administrator
        const [{ kv, pg, pid }, other] = [yield* behindProxy(), yield* behindProxy()]
        yield* pg`set synchronous_commit = on`
        const committed = yield* put(kv, "committed")
        yield* untilProcess(sql, sql`pid = ${pid} and wait_event = 'SyncRep'`)
        const pending = yield* put(other.kv, "pending")
        yield* untilBlocked(sql, "write")
        yield* server.restart
        yield* isAppliedOnce(kv, "committed", committed)
        yield* isAppliedOnce(kv, "pending", pending)
      }))

    it.effect("batched writes are applied once when the response to their transaction is lost", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv, proxy } = yield* behindProxy({ batching: {} })
        const release = yield* holding(sql, row)
        const alone = yield* put(kv, "batch/0")
        yield* untilBlocked(sql, "write")
        const keys = Array.from({ length: 20 }, (_, i) => `batch/${i + 1}`)
        const writes = yield* Effect.forEach(keys, (key) => put(kv, key))
        yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("batch/20"), linger: "1 second" })
        yield* release
        yield* isAppliedOnce(kv, "batch/0", alone)
        yield* Effect.forEach(keys, (key, i) => isAppliedOnce(kv, key, writes[i]!), { discard: true })
      }))

    it.effect("no write of a client is applied after the client has closed", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const reader = yield* behindProxy()
        const scope = yield* Scope.make()
        const session = { application_name: "closes" }
        const { kv, pg, proxy } = yield* Scope.provide(behindProxy({ connections: 2, session }), scope)
        // One of its connections is in use until the write is given up. Then it can be used to close.
        const sleeps = yield* Effect.forkChild(Effect.ignore(pg`select pg_sleep(60)`))
        yield* untilProcess(sql, sql`application_name = 'closes' and query like 'select pg_sleep%'`)
        yield* kv.put("warm", "up")
        const [row] = yield* sql<{ readonly pid: number }>`
          select pid from pg_stat_activity where application_name = 'closes' and query not like 'select pg_sleep%'`
        const last = yield* lastStatement(sql, row!.pid)
        const thaw = yield* freeze(row!.pid)
        const { bytesToServer } = yield* proxy.stats
        const write = yield* put(kv, "closed")
        yield* until("the write to be sent", proxy.stats, (stats) => stats.bytesToServer > bytesToServer)
        yield* Fiber.interrupt(write)
        yield* sql`select pg_cancel_backend(pid) from pg_stat_activity
          where application_name = 'closes' and query like 'select pg_sleep%'`
        yield* Fiber.join(sleeps)
        yield* Scope.close(scope, Exit.void)
        yield* thaw
        yield* untilExecuted(sql, row!.pid, last)
        assert.deepStrictEqual(yield* reader.kv.get("closed"), Option.none())
      }))

    it.effect("a compaction that was applied before the connection broke succeeds", () =>
      Effect.gen(function*() {
        const { kv, proxy, store } = yield* behindProxy()
        const { revision } = yield* kv.put("compacted", "1")
        const cut = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains(".compact("), linger: "200 millis" })
        yield* store.compact(revision)
        yield* cut.struck
        assert.strictEqual((yield* Effect.flip(store.compact(revision))).reason._tag, "Compacted")
      }))

    it.effect("a lost response is Indeterminate if the history that would show the outcome is compacted", () =>
      Effect.gen(function*() {
        const sql = yield* administrator
        const { kv, proxy } = yield* behindProxy()
        yield* sql`update effect_kv.store set revision = revision + 10, compacted = revision + 5, pending = revision + 5,
        cleanable = revision + 5`
        yield* proxy.cutBeforeForwarding({ when: TcpProxy.contains("unknown") })
        const error = yield* Effect.flip(kv.put("unknown", "1"))
        assert.strictEqual(error.reason._tag, "Indeterminate")
        assert.include(error.message, "compacted")
        assert.strictEqual((yield* kv.put("known", "1")).revision, (yield* entryOf(kv, "known")).modRevision)
      }))
  }
)
