/**
 * Serializable reads from a streaming replica, which may lag. What the replica cannot answer, the primary does: if it does
 * not respond, if it lags behind the requested revision, or if it belongs to another history than the primary.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as calls from "./calls.ts"
import { type Connection, make as connect } from "./connection.ts"
import type { Encoded } from "./encode.ts"
import { type Item, positionOf, rejection } from "./items.ts"
import { monotonicMillisOf } from "./realTime.ts"

/** How long a response may take, in milliseconds, and at most half of the call's deadline. */
const longest = 1000
/** For how long a replica that did not respond is not asked, in milliseconds. */
const suspended = 5000

export interface Replica {
  /** Reads from the replica; if it cannot answer, from the primary. */
  readonly read: (
    encoded: Encoded,
    fromPrimary: Effect.Effect<ReadonlyArray<Item>, KvError.KvError>
  ) => Effect.Effect<ReadonlyArray<Item>, KvError.KvError>
}

/** Whether the operation only reads, and each of its reads allows a response that lags. */
export const isSerializable = (op: Op.Op): boolean => {
  if (op._tag === "Range") return op.serializable === true
  if (op._tag !== "Txn") return false
  const inner = [...op.then, ...op.else]
  return inner.length > 0 && inner.every(isSerializable)
}

export const make = Effect.fnUntraced(function*(
  primary: Connection,
  pg: PgClient.PgClient
): Effect.fn.Return<Replica, never, Scope.Scope> {
  const to = yield* connect(pg, { ...primary.settings, migrate: false })
  let suspendedUntil = 0
  const responds = Effect.suspend(() => {
    const wasSuspended = suspendedUntil > 0
    suspendedUntil = 0
    return wasSuspended ? Effect.logInfo("effect-kv: the replica can be read again") : Effect.void
  })
  const fails = (now: number, reason: string): Effect.Effect<undefined> => {
    const wasSuspended = suspendedUntil > 0
    suspendedUntil = now + suspended
    return wasSuspended ? Effect.undefined : Effect.annotateLogs(
      Effect.as(
        Effect.logWarning("effect-kv: the replica cannot be read; serializable reads go to the primary until it can"),
        undefined
      ),
      { reason }
    )
  }
  const belongs = (items: ReadonlyArray<Item>): Effect.Effect<boolean> => {
    const seen = positionOf(items)
    if (seen === undefined) return Effect.succeed(false)
    const { epoch } = primary.identity.sent
    return epoch === undefined || epoch === seen.epoch ? Effect.succeed(true) : Effect.match(primary.lineage(seen), {
      onFailure: () => false,
      onSuccess: ({ holdsSeen }) => holdsSeen
    })
  }
  return {
    read: (encoded, fromPrimary) =>
      Effect.withFiber((fiber) => {
        const deadline = Duration.toMillis(fiber.getRef(Deadline.Deadline) ?? primary.settings.deadline)
        const clock = fiber.getRef(Clock.Clock)
        const start = monotonicMillisOf(clock)
        if (start < suspendedUntil) return fromPrimary
        return Effect.gen(function*() {
          const rows = yield* Effect.catch(
            to.once(calls.readAny(to, encoded), Math.min(longest, deadline / 2)),
            (reason) => fails(monotonicMillisOf(clock), reason)
          )
          if (rows !== undefined) {
            yield* responds
            const items = calls.itemsOf(rows)
            if (rejection(items) === undefined && (yield* belongs(items))) return items
          }
          const left = Math.max(1, deadline - (monotonicMillisOf(clock) - start))
          return yield* Deadline.within(fromPrimary, Duration.millis(left))
        })
      })
  }
})
