/**
 * Says in the log that a lock or a session was lost: one warning for each loss, none for an orderly end.
 */
import * as Effect from "effect/Effect"
import * as renewal from "./renewal.ts"

/** A lock that stands on a session. */
export interface LockOfSession {
  readonly lock: string
  readonly token: bigint
}

/** Logs that a session was lost, and which locks with it: they get no warning of their own. */
export const sessionLost = (
  lease: bigint,
  reason: string,
  locks: ReadonlyArray<LockOfSession>
): Effect.Effect<void> => {
  if (renewal.isOrderly(reason)) return Effect.void
  const which = locks.length === 0 ? {} : {
    lock: locks.map(({ lock }) => lock).join(", "),
    token: locks.map(({ token }) => token).join(", ")
  }
  return Effect.annotateLogs(Effect.logWarning("effect-kv: a session was lost"), {
    lease: lease.toString(16),
    reason,
    ...which
  })
}

/** Logs that a lock was lost while its session lives. */
export const lockLost = ({ lock, token }: LockOfSession, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("effect-kv: a lock was lost"), { lock, token: `${token}`, reason })

/** Logs that a key could not be removed, and that its lease is left to end. */
export const keyLeft = (key: string, lease: bigint, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("effect-kv: a key could not be removed; it stays until its lease has ended"),
    { key, lease: lease.toString(16), reason }
  )
