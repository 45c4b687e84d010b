/**
 * The end of a claim: the item is completed, returned, retried later, or has failed.
 *
 * One transaction deletes the claim and writes what follows, if the claim still has the worker's token. A worker that has
 * lost its claim changes nothing.
 */
import * as Compare from "@effect-kv/core/Compare"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type { Claimed } from "./claims.ts"
import * as failures from "./failures.ts"
import * as keysOf from "./keys.ts"

/** How a claim ends. */
export type End =
  | { readonly _tag: "Completed"; readonly at: number }
  | { readonly _tag: "Released" }
  | { readonly _tag: "Retried"; readonly from: number }
  | { readonly _tag: "Failed"; readonly at: number; readonly error: string }

/** How the exit of a take ends its claim. */
export const endOf = Effect.fnUntraced(function*(
  claimed: Claimed,
  exit: Exit.Exit<unknown, unknown>,
  options: {
    readonly maxAttempts: number
    readonly retryDelay: (attempts: number) => Effect.Effect<Duration.Duration>
  },
  now: number
): Effect.fn.Return<End> {
  if (exit._tag === "Success") return { _tag: "Completed", at: now }
  const undecodable = exit.cause.reasons.find((reason) => Cause.isFailReason(reason) && isDeadLetter(reason.error))
  if (undecodable !== undefined) {
    return { _tag: "Failed", at: now, error: `The element could not be decoded: ${errorText(exit.cause)}` }
  }
  if (Cause.hasInterruptsOnly(exit.cause)) return { _tag: "Released" }
  if (claimed.attempts >= options.maxAttempts) return { _tag: "Failed", at: now, error: errorText(exit.cause) }
  const delay = yield* options.retryDelay(claimed.attempts)
  return { _tag: "Retried", from: now + Duration.toMillis(delay) }
})

/** The signal of Effect's queue that an element can never be processed. Effect does not export it. */
const isDeadLetter = Predicate.isTagged("~effect/persistence/PersistedQueue/DeadLetter")

/** A stack trace can be long, and a store has limits. */
const errorText = (cause: Cause.Cause<unknown>): string => Cause.pretty(cause).slice(0, 4096)

/**
 * Ends the claim, and repeats that until the store has responded. False if the claim was lost, and nothing was changed.
 */
export const settle = (
  kv: Kv.Kv,
  keys: keysOf.Keys,
  claimed: Claimed,
  end: End,
  now: number
): Effect.Effect<boolean, KvError> => {
  const writes = [Op.delete(claimed.key), ...writesOf(keys, claimed, end, now)]
  // An earlier attempt whose response was lost may have ended the claim, so its absence does not mean that it was lost.
  let mayBeEnded = false
  return kv.txn({
    if: [Compare.createRevision(claimed.key, "=", claimed.token)],
    then: writes,
    else: []
  }).pipe(
    Effect.map(({ succeeded }) => succeeded || mayBeEnded),
    Effect.tapError((error) =>
      Effect.sync(() => {
        mayBeEnded ||= error.outcome === "Unknown"
      })
    ),
    Effect.tapError((error) =>
      failures.isRepeatable(error) || error.reason._tag === "Closed"
        ? Effect.void
        : Effect.logWarning(
          `effect-kv: the store rejects the end of an item of the queue ${keys.name}; it is repeated`,
          error.message
        )
    ),
    Effect.retry({
      while: ({ reason }) => reason._tag !== "Closed",
      schedule: Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("5 seconds")])
    })
  )
}

const writesOf = (keys: keysOf.Keys, claimed: Claimed, end: End, now: number): ReadonlyArray<Op.Op> => {
  const { attempts, id, isCustomId, place, size, token } = claimed
  switch (end._tag) {
    case "Completed":
      return [
        Op.put(keysOf.item(keys, id), keysOf.encodeDone(end.at, token)),
        Op.put(keysOf.ended(keys, isCustomId ? "done" : "spent", end.at, id), "")
      ]
    case "Released":
      return [Op.put(keysOf.due(keys, 0, place, id), keysOf.encodeMarker({ attempts: attempts - 1, size, place }))]
    case "Retried":
      return [
        Op.put(
          end.from > now ? keysOf.due(keys, end.from, place, id) : keysOf.ready(keys, id),
          keysOf.encodeMarker({ attempts, size, place })
        )
      ]
    case "Failed":
      return [Op.put(keysOf.ended(keys, "failed", end.at, id), JSON.stringify({ attempts, error: end.error }))]
  }
}
