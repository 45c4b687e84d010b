/**
 * A session that several locks and temporary keys share, with the names that each of them has claimed.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as lossLog from "./lossLog.ts"
import type { ReleaseWait } from "./releaseWait.ts"
import type * as renewal from "./renewal.ts"
import type { SharedTimer } from "./sharedTimer.ts"

export interface SharedSession extends renewal.Renewed {
  /** Closes when the lease ends. */
  readonly scope: Scope.Scope
  /**
   * Runs the effect in the session's scope, so it can outlive its caller. It counts as a user of the session until it
   * ends.
   */
  readonly finish: (effect: Effect.Effect<unknown>) => Effect.Effect<Fiber.Fiber<unknown>>
  /** Calls the function when the session is lost, at once if it is. Returns the function that removes it. */
  readonly onLost: (f: (reason: string) => void) => () => void
  /** Calls a function after 200 milliseconds: a key is only watched once it has been held that long. */
  readonly keyWatchTimer: SharedTimer
  /** The wait of a closing scope for the store. */
  readonly releaseWait: ReleaseWait
  /** The locks that are held with the session, named in the log when it is lost. */
  readonly locks: Set<lossLog.LockOfSession>
  /** Claims a key that no other user of this session has, made from `base`. */
  readonly claim: (base: string) => string
  /** Claims exactly this key; false if it is claimed already. */
  readonly tryClaim: (key: string) => boolean
  /** Frees the name of a key that is known to be gone. */
  readonly unclaim: (key: string) => void
  /** The next caller gets another session. This one ends with the last of its users. */
  readonly retire: Effect.Effect<void>
}

/** Adds listeners. They are plain functions, not fibers, because there is one for each lock. */
export const withListeners = (
  session: renewal.Renewed
): Effect.Effect<Pick<SharedSession, "onLost" | "locks"> & renewal.Renewed> => {
  const listeners = new Set<(reason: string) => void>()
  const locks = new Set<lossLog.LockOfSession>()
  let lost: string | undefined
  const onLost: SharedSession["onLost"] = (f) => {
    if (lost === undefined) listeners.add(f)
    else f(lost)
    return () => listeners.delete(f)
  }
  // Detached: listeners must also be notified when the session's scope closes. The fiber ends with the session.
  return Effect.as(
    Effect.forkDetach(Effect.flatMap(session.lostReason, (reason) => {
      lost = reason
      const held = [...locks]
      for (const listener of listeners) listener(reason)
      return lossLog.sessionLost(session.lease, reason, held)
    })),
    { ...session, onLost, locks }
  )
}

export const claims = (): Pick<SharedSession, "claim" | "tryClaim" | "unclaim"> => {
  const claimed = new Set<string>()
  let suffix = 0
  return {
    claim: (base) => {
      let key = base
      while (claimed.has(key)) key = `${base}-${++suffix}`
      claimed.add(key)
      return key
    },
    tryClaim: (key) => {
      if (claimed.has(key)) return false
      claimed.add(key)
      return true
    },
    unclaim: (key) => {
      claimed.delete(key)
    }
  }
}
