/**
 * Log messages for the loss of a lock or a session: one warning for each loss, none for an orderly end.
 */
import * as Effect from "effect/Effect"
import * as renewal from "./renewal.ts"

/** A lock that is held with a session's lease. */
export interface LockOfSession {
  readonly lock: string
  readonly token: bigint
}

/** Logs the loss of a session and names the locks lost with it, which get no warning of their own. */
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

/** Logs the loss of a lock whose session is still alive. */
export const lockLost = ({ lock, token }: LockOfSession, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("effect-kv: a lock was lost"), { lock, token: `${token}`, reason })

/** Logs that a key could not be removed and stays until its lease ends. */
export const keyLeft = (key: string, lease: bigint, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("effect-kv: a key could not be removed; it stays until its lease ends"),
    { key, lease: lease.toString(16), reason }
  )
