/**
 * The store in Postgres, for what `Kv` does not have: the fence of a SQL transaction, and compaction.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * The store that a layer of `PostgresLayer` uses.
 *
 * @since 0.1.0
 */
export class PostgresStore extends Context.Service<PostgresStore, {
  /** The schema that holds the store. */
  readonly schema: string
  /**
   * Makes the SQL transaction that it is called in conditional on the locks that the fiber holds.
   *
   * If a lock is lost, it fails with `LockLost`, and the transaction rolls back. Otherwise no other client can acquire
   * one of the locks until the transaction has ended. A transaction that is idle for 5 seconds after the call is ended by
   * the database, so a client that stopped cannot keep a lock. Fails with `InvalidRequest` outside of a transaction, and
   * if the fiber holds no lock. In a nested transaction it holds until the outer one ends; if the nested one is rolled
   * back, so is the fence.
   */
  readonly fence: Effect.Effect<void, KvError.KvError>
  /**
   * Removes the history that no read at `revision` or later can see. Watches can then start after `revision`.
   *
   * Fails with `Compacted` if the store was compacted at this revision or later, and with `FutureRevision` if the
   * revision has not happened yet.
   */
  readonly compact: (revision: bigint) => Effect.Effect<void, KvError.KvError>
}>()("@effect-kv/postgres/PostgresStore") {}

/**
 * `fence` of the store in the environment: makes the SQL transaction that it is called in conditional on the locks that
 * the fiber holds.
 *
 * **Gotchas**
 *
 * Acquire the lock first, then begin the transaction. A lock acquired within the transaction is released before the commit,
 * or, after the fence, not until then.
 *
 * @example
 * ```ts norun
 * import { DistLock } from "@effect-kv/core"
 * import { PostgresStore } from "@effect-kv/postgres"
 * import { PgClient } from "@effect/sql-pg"
 * import { Effect } from "effect"
 *
 * const bill = Effect.gen(function*() {
 *   const sql = yield* PgClient.PgClient
 *   yield* sql.withTransaction(Effect.gen(function*() {
 *     yield* PostgresStore.fence
 *     yield* sql`insert into invoice (month) values ('2026-11')`
 *   }))
 * }).pipe(DistLock.withDistLock("billing"))
 * ```
 *
 * @since 0.1.0
 */
export const fence: Effect.Effect<void, KvError.KvError, PostgresStore> = Effect.flatMap(
  PostgresStore,
  (store) => store.fence
)
