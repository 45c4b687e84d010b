/**
 * The fence of the application's own SQL transaction: the conditions of the fiber's fences, checked by the database in
 * that transaction.
 */
import type { Compare } from "@effect-kv/core/Compare"
import * as Fence from "@effect-kv/core/Fence"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as calls from "./calls.ts"
import type { Connection } from "./connection.ts"
import { encodeConditions } from "./encode.ts"
import * as sqlErrors from "./sqlErrors.ts"

/** How long the transaction may be idle after the check, in milliseconds. */
const idleMillis = 5000

export const make = (to: Connection, kv: Kv.Kv): Effect.Effect<void, KvError.KvError> => {
  const { client } = Fence.make(kv, { conditions: [], rejected: invalid("") })
  return Effect.gen(function*() {
    const fences = (yield* Fence.Current).filter((fence) => fence.client === client)
    if (fences.length === 0) {
      return yield* invalid(
        "the fiber holds no lock of this store; call it inside the lock's body, or for a lock of DistLock.acquire inside " +
          "DistLock.fenced(lock)"
      )
    }
    if (Option.isNone(yield* Effect.serviceOption(to.pg.transactionService))) {
      return yield* invalid(
        "there is no transaction; call it inside sql.withTransaction of the client that the layer uses"
      )
    }
    const lost = fences.find((fence) => !fence.isHeldUnsafe())
    if (lost !== undefined) return yield* lost.notHeld
    const conditions = fences.flatMap((fence) => fence.conditions.map((condition) => ({ condition, fence })))
    const keyed = conditions.flatMap(({ condition }) => ofKey(to.settings.prefix, condition))
    if (keyed.length < conditions.length) {
      return yield* invalid("a condition on a range cannot fence a SQL transaction; only conditions on keys can")
    }
    const failed = yield* check(to, keyed)
    if (failed < 0) return yield* fences[0]!.rejected
    if (failed > 0) return yield* conditions[failed - 1]!.fence.rejected
  })
}

const ofKey = (prefix: string, condition: Compare): ReadonlyArray<Compare> =>
  condition.target === "CreatedBefore" ? [] : [withKey(condition, prefix + condition.key)]

const withKey = <C extends Compare>(condition: C, key: string): C => ({ ...condition, key })

/**
 * The number of the first condition that does not hold, from 1; 0 if all hold. -1 if the store does not have all that the
 * client has seen: then conditions may hold by chance.
 */
const check = (to: Connection, conditions: ReadonlyArray<Compare>): Effect.Effect<number, KvError.KvError> => {
  const { data, json } = encodeConditions(conditions)
  const { epoch, revision } = to.identity.sent
  const known = [epoch ?? null, revision].map(PgTypes.int8)
  const params = [PgTypes.jsonb(json), calls.bytesArray(data), PgTypes.int4(idleMillis), ...known]
  return Effect.mapBoth(
    to.pg.unsafe<{ readonly failed: number }>(
      `select case when $4::bigint is null or ${to.schema}.holds_revision($4, $5)
        then ${to.schema}.fenced($1, $2, $3) else -1 end as failed`,
      params
    )
      .withoutTransform,
    {
      onFailure: (error) => KvError.make(sqlErrors.reasonOf(error)),
      onSuccess: (rows) => rows[0]!.failed
    }
  )
}

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
