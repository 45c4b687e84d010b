/**
 * A lease that is kept alive for as long as a scope is open: what temporary keys and locks stand on.
 *
 * A session is lost when the store says so, or when the time it was last granted has passed by this machine's clocks,
 * whichever comes first: its owner must know before the store gives its keys away. A lost session never comes back.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KvBackend } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import * as leaseGrant from "../internal/session/leaseGrant.ts"
import * as lossLog from "../internal/session/lossLog.ts"
import { defaultTtl, type Options, type Session } from "../internal/session/model.ts"
import * as renewal from "../internal/session/renewal.ts"
import { SessionLost } from "../internal/session/sessionLost.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"

export {
  /** The time to live of a session that does not say: 10 seconds. */
  defaultTtl,
  SessionLost
}

export type {
  /** Options of a session. */
  Options,
  /** A lease and its upkeep. */
  Session
}

/**
 * Grants a lease and keeps it alive until the scope closes; then revokes it.
 *
 * **Details**
 *
 * A grant that is not answered within a second is tried again under another id, and the first is revoked. A closing scope
 * waits for the revocation for at most one second. It then goes on in the background; if it never succeeds, the lease ends
 * with its time to live. A session that is lost is logged as one warning. It lives by the clock of the `Kv`'s client: the
 * machine's on etcd, whatever clock a test installs.
 */
export const make = (options?: Options): Effect.Effect<Session, KvError.KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, sessions } = internals.of(kv)
    return sessions.onClock(open(backend, options))
  })

const open = (
  backend: KvBackend,
  options: Options | undefined
): Effect.Effect<Session, KvError.KvError, Scope.Scope> =>
  Effect.gen(function*() {
    const granted = yield* leaseGrant.grant(backend, options?.ttl ?? defaultTtl, leaseGrant.waitForPatience)
    const { ended, isAlive, isAliveUnsafe, lease, ttl, verify } = yield* renewal.keep(backend, granted)
    // Detached: whoever notices a loss often closes the session. The fiber ends by itself, since closing a session ends it.
    yield* Effect.forkDetach(Effect.flatMap(ended, (how) => lossLog.sessionLost(lease, how, [])))
    const lost = Effect.flatMap(ended, (how) => Effect.fail(new SessionLost({ lease, how })))
    return { lease, ttl, isAlive, isAliveUnsafe, lost, verify }
  })
