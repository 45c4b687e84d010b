/**
 * Failures of the store in a queue: which are retried, and which error a caller gets.
 */
import type { KvError } from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import { PersistedQueueError } from "effect/persistence/PersistedQueue"
import * as Schedule from "effect/Schedule"

/**
 * Whether a request of a queue can be repeated. All of them are conditional on a place that only one of them can change,
 * so a write whose outcome is unknown can be repeated too.
 */
export const isRepeatable = ({ isRetryable, reason }: KvError): boolean =>
  isRetryable || reason._tag === "Indeterminate"

/** Whether the work can continue after a pause: the store will respond again, or the position of a watch is gone. */
export const isPassing = (error: KvError): boolean =>
  isRepeatable(error) || error.reason._tag === "Compacted" || error.reason._tag === "StoreReplaced"

/** Repeats a request as long as that can help. */
export const persistently = <A, R>(request: Effect.Effect<A, KvError, R>): Effect.Effect<A, KvError, R> =>
  Effect.retry(request, { while: isRepeatable, schedule: Schedule.spaced("200 millis") })

/** The caller's failure. Its cause is the error of the store. */
export const failure = (what: string) => (error: KvError): PersistedQueueError =>
  new PersistedQueueError({ message: `${what}: ${error.message}`, cause: error })
