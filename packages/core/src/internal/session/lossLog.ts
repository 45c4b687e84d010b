/**
 * Log messages for the loss of a lock, a leadership or a session: one warning for each loss, none for an orderly end.
 */
import * as Effect from "effect/Effect"
import * as lockKind from "../values/lockKind.ts"
import * as renewal from "./renewal.ts"

/** A lock that is held with a session's lease. */
export interface LockOfSession {
  readonly kind: lockKind.LockKind
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
  const ofKind = (kind: lockKind.LockKind) => {
    const names = locks.filter((lock) => lock.kind === kind).map(({ lock }) => lock)
    return names.length === 0 ? {} : lockKind.annotationOf(kind, names.join(", "))
  }
  const which = locks.length === 0 ? {} : {
    ...ofKind("lock"),
    ...ofKind("leadership"),
    ...ofKind("semaphore"),
    ...ofKind("slot"),
    ...ofKind("run"),
    token: locks.map(({ token }) => token).join(", ")
  }
  return Effect.annotateLogs(Effect.logWarning("effect-kv: a session was lost"), {
    lease: lease.toString(16),
    reason,
    ...which
  })
}

/** Logs the loss of a lock or leadership whose session is still alive. */
export const lockLost = ({ kind, lock, token }: LockOfSession, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`effect-kv: a ${kind} was lost`), {
    ...lockKind.annotationOf(kind, lock),
    token: `${token}`,
    reason
  })

/** Logs that a key could not be removed and stays until its lease ends. */
export const keyLeft = (key: string, lease: bigint, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("effect-kv: a key could not be removed; it stays until its lease ends"),
    { key, lease: lease.toString(16), reason }
  )
